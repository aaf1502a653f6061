import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openSharedCollective } from '../../src/device/collective/open-shared.ts';
import { createRegion, regionElements, removeRegion } from '../../src/device/collective/shared-region.ts';
import { valueAt } from './collective-rank.ts';

interface Answer {
  sums: Float32Array[];
  joined: Float32Array[];
}

async function runRank(path: string, rank: number, ranks: number, message: object): Promise<Answer> {
  const script = fileURLToPath(new URL('collective-rank.ts', import.meta.url));
  const child = fork(script, [path, `${rank}`, `${ranks}`], {
    execArgv: ['--import', import.meta.resolve('tsx')],
    serialization: 'advanced',
  });
  child.send(message);
  const [answer] = (await once(child, 'message')) as [Answer];
  await once(child, 'exit');
  return answer;
}

test('processes add up and join their values over shared memory, in rank order and in pieces', async () => {
  const ranks = 3;
  const widths = [5, 3, 4];
  // More exchanges than buffers, none, and one longer than a piece.
  const lengths = [1, 0, 700, 3, 3, 17, regionElements / 4];
  const path = createRegion(ranks, 'three');
  try {
    const message = { lengths, widths };
    const answers = await Promise.all(
      Array.from({ length: ranks }, (_, rank) => runRank(path, rank, ranks, message)),
    );
    for (const [exchange, length] of lengths.entries()) {
      const sum = (index: number) => {
        const [a = 0, b = 0, c = 0] = [0, 1, 2].map((rank) => valueAt(exchange, rank, index));
        return Math.fround(Math.fround(a + b) + c);
      };
      const expected = Float32Array.from({ length }, (_, index) => sum(index));
      const row = (at: number) =>
        widths.flatMap((width, rank) =>
          Array.from({ length: width }, (_, column) => valueAt(exchange, rank, at * width + column)),
        );
      const joined = Float32Array.from(Array.from({ length }, (_, at) => row(at)).flat());
      for (const answer of answers) {
        assert.deepEqual(answer.sums[exchange], expected);
        assert.deepEqual(answer.joined[exchange], joined);
      }
    }
  } finally {
    removeRegion(path);
  }
});

test('a rank that waits in vain says for whom, after the deadline', () => {
  const path = createRegion(2, 'alone');
  try {
    const collective = openSharedCollective(path, 0, 2, { timeoutMs: 20 });
    const alone = () => collective.allReduce(new Float32Array(4));
    assert.throws(alone, {
      code: 'DEVICE_FAILED',
      message: /rank 1 did not come to exchange 1 within 20 ms/,
    });
    collective.close();
  } finally {
    removeRegion(path);
  }
});

test('memory of another version, group or size is refused', () => {
  const path = createRegion(2, 'version');
  try {
    assert.throws(() => openSharedCollective(path, 0, 3), /holds \d+ bytes instead of/);
    assert.throws(() => createRegion(2, 'version'), {
      code: 'DEVICE_OUT_OF_MEMORY',
    });
    const bytes = readFileSync(path);
    bytes.writeInt32LE(99, 4);
    writeFileSync(path, bytes);
    assert.throws(() => openSharedCollective(path, 0, 2), {
      code: 'DEVICE_FAILED',
      message: /version 99 for 2 ranks/,
    });
  } finally {
    removeRegion(path);
  }
});
