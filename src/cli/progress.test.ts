import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createProgress, formatBytes, formatSeconds } from './progress.ts';

/** A stream that keeps what is written, as a terminal or a pipe. */
function recorder(isTTY: boolean) {
  const written: string[] = [];
  const stream = {
    isTTY,
    columns: 100,
    write: (text: string) => {
      written.push(text);
      return true;
    },
  } as unknown as NodeJS.WriteStream;
  return { stream, written };
}

test('on a terminal: a bar with share, rate and ETA, drawn over and then replaced by a summary', () => {
  const { stream, written } = recorder(true);
  let nowMs = 0;
  const progress = createProgress({ stream, nowMs: () => nowMs });
  progress.start('Converting', 100e6);
  nowMs = 1000;
  progress.advance(25e6);
  assert.match(
    written.at(-1) ?? '',
    /^\r.*Converting ██████░{18} 25%, 25\.0 MB of 100 MB, 25\.0 MB\/s, ETA 3 s$/,
  );
  progress.note('a note');
  assert.deepEqual(written.slice(-2), ['\r\x1b[K', 'a note\n']);
  nowMs = 2000;
  progress.advance(75e6);
  progress.finish();
  assert.equal(written.at(-1), 'Converting: 100 MB in 2.0 s, 50.0 MB/s\n');
});

test('elsewhere: plain lines, seldom', () => {
  const { stream, written } = recorder(false);
  let nowMs = 0;
  const progress = createProgress({ stream, nowMs: () => nowMs });
  progress.start('Hashing', 100e6);
  for (let step = 0; step < 60; step++) {
    nowMs += 100;
    progress.advance(1e6);
  }
  assert.deepEqual(written, ['Hashing: 50%, 50.0 MB of 100 MB, 10.0 MB/s, ETA 5 s\n']);
  progress.finish();
  progress.finish();
  progress.advance(1);
  assert.equal(written.length, 2);
});

test('sizes and durations as people write them', () => {
  assert.deepEqual([0, 999, 1000, 98_362_432, 1.5e12].map(formatBytes), [
    '0 B',
    '999 B',
    '1.0 kB',
    '98.4 MB',
    '1.5 TB',
  ]);
  assert.deepEqual([0.2, 59, 60, 200, 7500].map(formatSeconds), [
    '1 s',
    '59 s',
    '1 min 0 s',
    '3 min 20 s',
    '2 h 5 min',
  ]);
});
