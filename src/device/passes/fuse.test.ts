import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GraphBuilder } from '../../graph/builder.ts';
import type { Graph } from '../../graph/graph.ts';
import { type FusedGraph, fuse } from './fuse.ts';

const width = 32;
const heads = 2;
const headDimension = 16;

interface Variant {
  layers?: number;
  bias?: boolean;
  outputRows?: number;
  /** Type of v's weight; q and k are f16. */
  valueType?: 'f16' | 'f32';
}

/** A decoder of 8 tokens with grouped projections, as the architectures record it. */
function record({ layers = 2, bias = false, outputRows = 1, valueType = 'f16' }: Variant): Graph {
  const g = new GraphBuilder();
  const batch = g.batch({ tokens: 8, outputRows });
  const norm = g.weight('norm', [width], 'f32');
  const rope = { mode: 'half', dimensions: headDimension, theta: 1e4, frequencyScale: 1 } as const;
  let x = g.embedding(g.weight('table', [50, width], 'f32'), batch.tokens);
  for (let layer = 0; layer < layers; layer++) {
    const h = g.rmsNorm(x, norm, 1e-5);
    const linear = (part: string, input = h, dtype: 'f16' | 'f32' = 'f16') => {
      const name = `${layer}.${part}`;
      const weight = g.weight(name, [width, width], dtype);
      return g.linear(
        input,
        bias ? { name, weight, bias: g.weight(`${name}.bias`, [width], 'f32') } : { name, weight },
      );
    };
    const q = g.rope(g.heads(linear('q'), heads), batch.positions, rope);
    const k = g.rope(g.heads(linear('k'), heads), batch.positions, rope);
    const v = g.heads(linear('v', h, valueType), heads);
    const attributes = {
      layer,
      heads,
      kvHeads: heads,
      headDimension,
      valueHeadDimension: headDimension,
      scale: 1,
    };
    x = g.add(x, linear('o', g.attention(q, k, v, attributes)));
    const m = g.rmsNorm(x, norm, 1e-5);
    x = g.add(x, linear('down', g.swiglu(linear('gate', m), linear('up', m))));
  }
  return g.finish({ logits: g.rows(x, batch.outputRows) });
}

function names(fused: FusedGraph): string[] {
  return fused.graph.nodes.flatMap((node) => (node.op === 'weight' ? [node.attributes.name] : []));
}

const count = (fused: FusedGraph, op: string) => fused.graph.nodes.filter((node) => node.op === op).length;

test('projections of one input are stacked, ropes joined, and nothing else changes', () => {
  const fused = fuse(record({}), () => true);
  assert.deepEqual([...fused.stacked.keys()], ['0.q+0.k+0.v', '0.gate+0.up', '1.q+1.k+1.v', '1.gate+1.up']);
  assert.equal(count(fused, 'linear'), 8);
  assert.equal(count(fused, 'rope'), 2);
  assert.equal(fused.inPlaceRopes.size, 2);
  assert.equal(count(fused, 'attention'), 2);
  const stacked = fused.graph.nodes.find((node) => node.op === 'linear');
  assert.deepEqual(stacked?.shape, [8, 3 * width]);
  assert.deepEqual(stacked?.op === 'linear' && stacked.attributes.parts.map((part) => part.name), [
    '0.q',
    '0.k',
    '0.v',
  ]);
});

test('biases are stacked with their matrices', () => {
  const fused = fuse(record({ bias: true, layers: 1 }), () => true);
  assert.deepEqual(fused.stacked.get('0.q.bias+0.k.bias+0.v.bias'), ['0.q.bias', '0.k.bias', '0.v.bias']);
});

test('a weight of another type stays alone', () => {
  const fused = fuse(record({ valueType: 'f32', layers: 1 }), () => true);
  assert.ok(fused.stacked.has('0.q+0.k'));
  assert.ok(names(fused).includes('0.v'));
  assert.equal(fused.inPlaceRopes.size, 1);
});

test('nothing is stacked that the device declines', () => {
  const fused = fuse(record({}), () => false);
  assert.equal(fused.stacked.size, 0);
  assert.equal(count(fused, 'linear'), 14);
});

test('the last layer computes wanted rows only, earlier ones all', () => {
  const fused = fuse(record({}), () => true);
  const rowsOf = (node: Graph['nodes'][number]) => node.shape[0];
  const linears = fused.graph.nodes.filter((node) => node.op === 'linear').map(rowsOf);
  // Layer 0: qkv, o, gate+up, down; layer 1: qkv on all rows, then the wanted one.
  assert.deepEqual(linears, [8, 8, 8, 8, 8, 1, 1, 1]);
  assert.equal(fused.graph.nodes[fused.graph.outputs.logits!]?.shape[0], 1);
});

test('a step without output rows still writes every layer of the cache, and no more', () => {
  const fused = fuse(record({ outputRows: 0 }), () => true);
  assert.deepEqual(fused.graph.outputs, {});
  assert.equal(count(fused, 'attention'), 2);
  assert.ok(!names(fused).includes('1.o'));
});
