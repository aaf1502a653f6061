import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verifyGraph } from '../graph/spec.ts';
import { ModelError } from './errors.ts';
import type { StoredWeight } from './graph-weights.ts';
import type { Hyperparameters } from './hyperparameters.ts';
import { divideModel, hyperparametersOfRank, rangeLength } from './partition.ts';
import type { Range, RankPart } from './rank-part.ts';
import { architectures } from './registry.ts';
import { modelSource } from './source.ts';
import { modelWeights } from './weights.ts';

/** SmolLM2-135M. */
const smol: Hyperparameters = {
  architecture: 'llama',
  layers: 30,
  width: 576,
  heads: 9,
  kvHeads: 3,
  headDimension: 64,
  feedForwardWidth: 1536,
  vocabularySize: 49152,
  contextLength: 8192,
  normEpsilon: 1e-5,
  rope: { theta: 1e5, dimensions: 64 },
  tiedEmbeddings: true,
};
const single = { tensor: 1, pipeline: 1 };

/** Ranges lie one after the other and cover [0, total). */
function assertCovers(ranges: readonly Range[], total: number): void {
  let end = 0;
  for (const [from, to] of ranges) {
    assert.equal(from, end);
    assert.ok(to > from, 'no range is empty');
    end = to;
  }
  assert.equal(end, total);
}

test('every head, column, word and layer belongs to exactly one rank', () => {
  for (const [tensor, pipeline] of [
    [1, 1],
    [2, 1],
    [3, 2],
    [1, 30],
    [2, 7],
  ] as const) {
    const parts = divideModel(smol, { tensor, pipeline });
    assert.deepEqual(
      parts.map((part) => part.rank),
      Array.from({ length: tensor * pipeline }, (_, rank) => rank),
    );
    const group = parts.slice(0, tensor);
    assertCovers(
      group.map((part) => part.heads),
      9,
    );
    assertCovers(
      group.map((part) => part.kvHeads),
      3,
    );
    assertCovers(
      group.map((part) => part.feedForward),
      1536,
    );
    assertCovers((group[0] as RankPart).vocabulary, 49152);
    const stages = parts.filter((part) => part.tensorRank === 0);
    assertCovers(
      stages.map((part) => part.layers),
      30,
    );
  }
});

test('feed-forward columns make up for unequal heads, and layers for the output matrix', () => {
  const [first, second] = divideModel(smol, { tensor: 2, pipeline: 1 }) as [RankPart, RankPart];
  assert.deepEqual(
    [first.heads, second.heads],
    [
      [0, 6],
      [6, 9],
    ],
  );
  const weights = ({ heads, kvHeads, feedForward }: RankPart) =>
    4 * 64 * (rangeLength(heads) + rangeLength(kvHeads)) + 3 * rangeLength(feedForward);
  assert.ok(Math.abs(weights(first) / weights(second) - 1) < 0.06);
  assert.ok(rangeLength(first.feedForward) < rangeLength(second.feedForward) - 256);
  assert.equal(first.feedForward[1] % 64, 0);
  const stages = divideModel(smol, { tensor: 1, pipeline: 2 });
  // The output matrix weighs as much as 6 layers.
  assert.deepEqual(
    stages.map((part) => part.layers),
    [
      [0, 18],
      [18, 30],
    ],
  );
});

test('more ranks than key/value heads share copies of them; counts that do not fit are refused with those that do', () => {
  const grouped = { ...smol, heads: 8, kvHeads: 2, width: 512 };
  const parts = divideModel(grouped, { tensor: 4, pipeline: 1 });
  assert.deepEqual(
    parts.map((part) => part.kvHeads),
    [
      [0, 1],
      [0, 1],
      [1, 2],
      [1, 2],
    ],
  );
  assert.deepEqual(
    parts.map((part) => part.heads),
    [
      [0, 2],
      [2, 4],
      [4, 6],
      [6, 8],
    ],
  );
  const refused = (parallelism: { tensor: number; pipeline: number }, expected: RegExp) =>
    assert.throws(
      () => divideModel(smol, parallelism),
      (thrown) => thrown instanceof ModelError && expected.test(thrown.message),
    );
  refused(
    { tensor: 4, pipeline: 1 },
    /9 heads over 3 .* among 4 tensor ranks; --tensor-parallel may be 1, 2, 3, 9$/,
  );
  refused({ tensor: 1, pipeline: 31 }, /31 pipeline stages for 30 layers/);
  refused({ tensor: 9, pipeline: 9 }, /64 ranks at most/);
  refused({ tensor: 0, pipeline: 1 }, /give whole numbers/);
});

function source(row: Awaited<ReturnType<typeof architectures.load>>, p: Hyperparameters) {
  const weights = new Map<string, StoredWeight>();
  for (const { gguf, shape, presence } of modelWeights(row, p)) {
    if (presence !== 'optional') weights.set(gguf, { name: gguf, shape, dtype: 'f32' });
  }
  return modelSource(row, p, weights);
}

test('every architecture records each rank’s graph: sums behind divided inputs, joined logits, hidden between stages', async () => {
  for (const name of architectures.names) {
    const row = await architectures.load(name);
    const p = {
      ...smol,
      architecture: name,
      layers: 3,
      vocabularySize: 640,
      ...(name === 'gpt2' && { kvHeads: 9 }),
    };
    const alone = source(row, p).record({ tokens: 5, outputRows: 2 });
    assert.ok(!alone.nodes.some((node) => node.op === 'allReduce' || node.op === 'allGather'));
    for (const part of divideModel(p, { tensor: 2, pipeline: 2 })) {
      const own = source(row, hyperparametersOfRank(p, part));
      const graph = own.record({ tokens: 5, outputRows: 2 });
      verifyGraph(graph);
      const count = (op: string) => graph.nodes.filter((node) => node.op === op).length;
      const layers = rangeLength(part.layers);
      assert.equal(own.kv.layers.length, layers);
      assert.equal(count('attention'), layers);
      assert.equal(count('allReduce'), 2 * layers);
      assert.equal(count('allGather'), part.stage === 1 ? 1 : 0);
      const [output] = Object.entries(graph.outputs);
      assert.ok(output);
      assert.equal(output[0], part.stage === 1 ? 'logits' : 'hidden');
      assert.deepEqual(graph.nodes[output[1]]?.shape, part.stage === 1 ? [2, 640] : [5, 576]);
      const takesHidden = graph.nodes.some(
        (node) => node.op === 'input' && node.attributes.name === 'hidden',
      );
      assert.equal(takesHidden, part.stage === 1);
    }
  }
});

test('one rank that holds everything has the whole model’s numbers and graph', async () => {
  const row = await architectures.load('llama');
  const p = { ...smol, layers: 2, vocabularySize: 640 };
  const [part] = divideModel(p, single) as [RankPart];
  const shape = { tokens: 3, outputRows: 1 };
  assert.deepEqual(source(row, hyperparametersOfRank(p, part)).record(shape), source(row, p).record(shape));
});
