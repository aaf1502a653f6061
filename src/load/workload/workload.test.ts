import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { packageRoot } from '../../base/entry.ts';
import { openTokenizer } from '../../tokenizer/open.ts';
import { datasetBytesMax } from '../limits.ts';
import { readArrivalTrace } from './arrival-trace.ts';
import { openWorkload } from './open.ts';
import type { WorkloadSource, WorkloadSpec } from './spec.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-workload-'));
after(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const exactly = (mean: number) => ({ distribution: 'normal' as const, mean, spread: 0 });

function spec(source: WorkloadSource, more: Partial<WorkloadSpec> = {}): WorkloadSpec {
  return {
    source,
    seed: 1,
    sendsTokens: false,
    vocabularySize: 1000,
    models: [],
    cancelShare: 0,
    salted: false,
    ...more,
  };
}

const synthetic: WorkloadSource = {
  kind: 'synthetic',
  input: exactly(20),
  prefixes: 2,
  prefixTokens: 8,
  turns: 1,
};

test('a session is a function of seed and index', async () => {
  const [first, second] = [await openWorkload(spec(synthetic)), await openWorkload(spec(synthetic))];
  assert.deepEqual(first.session(41), second.session(41));
  assert.notDeepEqual(first.session(41).turns, first.session(42).turns);
  const other = await openWorkload(spec(synthetic, { seed: 2 }));
  assert.notDeepEqual(first.session(41), other.session(41));
});

test('drawn lengths have the asked mean, and never less than one token', async () => {
  const input = { distribution: 'normal' as const, mean: 50, spread: 10 };
  const output = { distribution: 'uniform' as const, mean: 2, spread: 2 };
  const source = { ...synthetic, input, prefixTokens: 0 };
  const workload = await openWorkload(spec(source, { output }));
  const turns = Array.from({ length: 500 }, (_, i) => workload.session(i).turns[0]!);
  const mean = turns.reduce((sum, { inputTokens }) => sum + inputTokens, 0) / turns.length;
  assert.ok(Math.abs(mean - 50) < 2, `${mean}`);
  assert.ok(turns.every(({ outputTokensMax }) => outputTokensMax >= 1 && outputTokensMax <= 4));
  assert.ok(turns.every(({ text, inputTokens }) => text!.split(' ').length === inputTokens));
});

test('prompts share their beginnings; a salt takes that away', async () => {
  const beginnings = async (salted: boolean): Promise<number> => {
    const workload = await openWorkload(spec(synthetic, { salted }));
    const texts = Array.from({ length: 40 }, (_, i) => workload.session(i).turns[0]!.text!);
    return new Set(texts.map((text) => text.split(' ').slice(0, 8).join(' '))).size;
  };
  assert.equal(await beginnings(false), 2);
  assert.equal(await beginnings(true), 40);
});

test('ids: exact lengths, below the vocabulary, shared prefixes too', async () => {
  const workload = await openWorkload(spec(synthetic, { sendsTokens: true, vocabularySize: 5000 }));
  const sessions = Array.from({ length: 30 }, (_, i) => workload.session(i).turns[0]!);
  assert.ok(sessions.every(({ tokens, inputTokens }) => tokens!.length === 28 && inputTokens === 28));
  assert.ok(sessions.every(({ tokens }) => tokens!.every((id) => id >= 0 && id < 5000)));
  assert.equal(new Set(sessions.map(({ tokens }) => tokens!.slice(0, 8).join())).size, 2);
});

test('with a tokenizer made-up prompts have the asked number of tokens', async () => {
  const tokenizerFolder = join(packageRoot, 'models', 'nereid-16m');
  const workload = await openWorkload(
    spec({ ...synthetic, prefixTokens: 0, input: exactly(100) }, { tokenizerFolder }),
  );
  const tokenizer = await openTokenizer(tokenizerFolder);
  const { text, inputTokens } = workload.session(0).turns[0]!;
  assert.equal(tokenizer.encode(text!).length, inputTokens);
  assert.ok(Math.abs(inputTokens - 100) <= 4, `${inputTokens}`);
});

test('adapters are mixed, some requests are to be cancelled, conversations have their turns', async () => {
  const workload = await openWorkload(
    spec({ ...synthetic, turns: 3 }, { models: ['a', 'b'], cancelShare: 0.25, output: exactly(10) }),
  );
  const sessions = Array.from({ length: 400 }, (_, i) => workload.session(i));
  assert.deepEqual(new Set(sessions.map(({ model }) => model)), new Set(['a', 'b']));
  const turns = sessions.flatMap((session) => session.turns);
  assert.equal(turns.length, 1200);
  const cancelled = turns.filter(({ cancelAfterOutputs }) => cancelAfterOutputs !== undefined);
  assert.ok(Math.abs(cancelled.length / turns.length - 0.25) < 0.04);
  assert.ok(
    cancelled.every(({ cancelAfterOutputs }) => cancelAfterOutputs! >= 1 && cancelAfterOutputs! < 10),
  );
  await assert.rejects(openWorkload(spec({ ...synthetic, turns: 1001 })), { code: 'LOAD_OPTION_INVALID' });
});

test('ShareGPT, instruction and custom files', async () => {
  const chats = [
    {
      conversations: [
        { from: 'human', value: 'Hi there' },
        { from: 'gpt', value: 'x'.repeat(40) },
      ],
    },
    { conversations: [{ from: 'human', value: 'alone' }] },
  ];
  const shareGpt = await openWorkload(
    spec({ kind: 'sharegpt', path: file('chats.json', JSON.stringify(chats)) }),
  );
  assert.equal(shareGpt.distinctSessions, 1, 'a conversation of one message is left out');
  assert.equal(shareGpt.session(5).turns[0]!.text, 'Hi there');
  assert.equal(shareGpt.session(5).turns[0]!.outputTokensMax, 10);
  const tasks = [{ instruction: 'Add.', input: '1 2', output: 'It is three of course.' }];
  const instruction = await openWorkload(
    spec({ kind: 'instruction', path: file('tasks.json', JSON.stringify(tasks)), tokensPerWord: 1.3 }),
  );
  assert.deepEqual(
    [instruction.session(0).turns[0]!.text, instruction.session(0).turns[0]!.outputTokensMax],
    ['1 2 Add.', 6],
  );
  const custom = await openWorkload(
    spec({
      kind: 'custom',
      path: file('custom.jsonl', '{"prompt":"a","output_tokens":3}\n\n{"prompt":"b"}\n'),
    }),
  );
  assert.deepEqual(new Set([0, 1].map((i) => custom.session(i).turns[0]!.text)), new Set(['a', 'b']));
});

test('recorded traces: JSON lines and CSV, with lengths', async () => {
  const lines =
    '{"timestamp":500,"input_length":7,"output_length":3}\n{"timestamp":0,"input_length":5,"output_length":2}\n';
  assert.deepEqual(
    readArrivalTrace(file('trace.jsonl', lines)).map(({ atMs, inputTokens }) => [atMs, inputTokens]),
    [
      [0, 5],
      [500, 7],
    ],
  );
  const path = file('trace.csv', 'Timestamp,Model,Request tokens,Response tokens\n5,x,10,20\n45,x,30,40\n');
  assert.deepEqual(readArrivalTrace(path), [
    { atMs: 5000, inputTokens: 10, outputTokens: 20 },
    { atMs: 45_000, inputTokens: 30, outputTokens: 40 },
  ]);
  const workload = await openWorkload(spec({ kind: 'replay', path }));
  assert.deepEqual(
    [workload.session(1).turns[0]!.inputTokens, workload.session(1).turns[0]!.outputTokensMax],
    [30, 40],
  );
});

test('datasets that cannot be used say why', async () => {
  const open = (source: WorkloadSource): Promise<unknown> => openWorkload(spec(source));
  const code = 'LOAD_DATASET_INVALID';
  await assert.rejects(open({ kind: 'sharegpt', path: join(folder, 'none') }), {
    code: 'LOAD_DATASET_UNREADABLE',
  });
  await assert.rejects(open({ kind: 'sharegpt', path: file('a.json', '{}') }), {
    code,
    message: /holds no list.*conversations/,
  });
  await assert.rejects(open({ kind: 'sharegpt', path: file('b.json', '[{}]') }), {
    code,
    message: /no usable entry/,
  });
  await assert.rejects(open({ kind: 'custom', path: file('c.jsonl', '{"prompt":"a"}\nx') }), {
    code,
    message: /line 2/,
  });
  await assert.rejects(open({ kind: 'replay', path: file('d.csv', 'a,b\n1,2') }), {
    code,
    message: /Timestamp/,
  });
  const large = file('large.json', '');
  truncateSync(large, datasetBytesMax + 1);
  await assert.rejects(open({ kind: 'sharegpt', path: large }), { code, message: /at most/ });
  await assert.rejects(openWorkload(spec({ kind: 'fixed', prompts: ['a'] }, { sendsTokens: true })), {
    code: 'LOAD_OPTION_INVALID',
    message: /--tokenizer/,
  });
});
