import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GraphBuilder, type Value } from './builder.ts';
import { GraphError } from './errors.ts';
import type { Graph, GraphNode } from './graph.ts';
import { graphEqual, graphHash } from './hash.ts';
import { opNames } from './infer.ts';
import { printGraph } from './print.ts';
import { verifyGraph } from './spec.ts';

/** An MLP with a residual: [3, 8] → [2, 8]. */
function network(epsilon = 1e-5): Graph {
  const g = new GraphBuilder();
  const batch = g.batch({ tokens: 3, outputRows: 2 });
  const x = g.embedding(g.weight('table', [16, 8], 'q8_0'), batch.tokens);
  const h = g.rmsNorm(x, g.weight('norm', [8], 'f32'), epsilon);
  const up = g.linear(h, { name: 'up', weight: g.weight('up.weight', [4, 8], 'f16') });
  const down = g.linear(g.silu(up), {
    name: 'down',
    weight: g.weight('down.weight', [8, 4], 'f16'),
    bias: g.weight('down.bias', [8], 'f32'),
  });
  return g.finish({ hidden: g.rows(g.add(x, down), batch.outputRows) });
}

test('a recorded graph meets the spec and prints one stable line a node', () => {
  const graph = network();
  verifyGraph(graph);
  assert.equal(
    printGraph(graph),
    `%0 = input() {name: "tokens"} : i32[3]
%1 = input() {name: "positions"} : i32[3]
%2 = input() {name: "outputRows"} : i32[2]
%3 = weight() {name: "table"} : q8_0[16, 8]
%4 = embedding(%3, %0) : f32[3, 8]
%5 = weight() {name: "norm"} : f32[8]
%6 = rmsNorm(%4, %5) {epsilon: 0.00001} : f32[3, 8]
%7 = weight() {name: "up.weight"} : f16[4, 8]
%8 = linear(%6, %7) {parts: [{name: "up", rows: 4}]} : f32[3, 4]
%9 = silu(%8) : f32[3, 4]
%10 = weight() {name: "down.weight"} : f16[8, 4]
%11 = weight() {name: "down.bias"} : f32[8]
%12 = linear(%9, %10, %11) {parts: [{name: "down", rows: 8}]} : f32[3, 8]
%13 = add(%4, %12) : f32[3, 8]
%14 = rows(%13, %2) : f32[2, 8]
output hidden = %14
`,
  );
});

test('equal graphs have equal hashes, and a changed attribute changes both', () => {
  assert.ok(graphEqual(network(), network()));
  assert.equal(graphHash(network()), graphHash(network()));
  assert.ok(!graphEqual(network(), network(1e-6)));
  assert.notEqual(graphHash(network()), graphHash(network(1e-6)));
});

const yarn = {
  originalContextLength: 0,
  extrapolationFactor: 1,
  attentionFactor: 1,
  betaFast: 32,
  betaSlow: 1,
};
const head = { layer: 0, heads: 4, kvHeads: 2, headDimension: 2, valueHeadDimension: 2, scale: 1 };
const rope = { mode: 'half', dimensions: 2, theta: 1e4, frequencyScale: 1 } as const;

/** Recordings that break one rule each, and the text that must name op, subject, expectation and what came. */
const mistakes: [
  RegExp,
  (g: GraphBuilder, x: Value, ids: Value, w: (...shape: number[]) => Value) => Value,
][] = [
  [/^embedding: ids: expected i32 of rank 1, got f32\[3, 8\]$/, (g, x, _, w) => g.embedding(w(4, 8), x)],
  [
    /^linear: weight: expected \[out, 8\], got f32\[4, 6\]$/,
    (g, x, _, w) => g.linear(x, { name: '', weight: w(4, 6) }),
  ],
  [
    /^linear: bias: expected \[4\], got f32\[5\]$/,
    (g, x, _, w) => g.linear(x, { name: '', weight: w(4, 8), bias: w(5) }),
  ],
  [/^rmsNorm: weight: expected \[8\], got f32\[7\]$/, (g, x, _, w) => g.rmsNorm(x, w(7), 1)],
  [/^rmsNorm: epsilon: expected a number above 0, got 0$/, (g, x, _, w) => g.rmsNorm(x, w(8), 0)],
  [/^layerNorm: bias: expected \[8\], got f32\[1\]$/, (g, x, _, w) => g.layerNorm(x, w(8), w(1), 1)],
  [/^add: b: expected the shape of a \(f32\[3, 8\]\).*got f32\[3\]$/, (g, x, _, w) => g.add(x, w(3))],
  [/^scale: factor: expected a finite number, got NaN$/, (g, x) => g.scale(x, Number.NaN)],
  [/^gelu: approximation: .*got sine$/, (g, x) => g.gelu(x, 'sine' as 'erf')],
  [/^swiglu: up: expected \[3, 8\], got f32\[3, 4\]$/, (g, x) => g.swiglu(x, g.slice(x, 1, 0, 4))],
  [/^rope: x: expected f32 of rank 3, got f32\[3, 8\]$/, (g, x, ids) => g.rope(x, ids, rope)],
  [
    /^rope: dimensions: expected an integer in 2\.\.2, got 4$/,
    (g, x, ids) => g.rope(g.heads(x, 4), ids, { ...rope, dimensions: 4 }),
  ],
  [
    /^rope: frequencyFactors: expected \[1\], got f32\[4\]$/,
    (g, x, ids, w) => g.rope(g.heads(x, 4), ids, rope, w(4)),
  ],
  [
    /^rope: yarn.originalContextLength: expected/,
    (g, x, ids) => g.rope(g.heads(x, 4), ids, { ...rope, yarn }),
  ],
  [
    /^attention: k: expected \[3, 2, 2\], got f32\[3, 4, 2\]$/,
    (g, x) => g.attention(g.heads(x, 4), g.heads(x, 4), g.heads(x, 4), head),
  ],
  [
    /^attention: kvHeads: expected a divisor of 4 heads, got 3$/,
    (g, x) => g.attention(g.heads(x, 4), g.heads(x, 4), g.heads(x, 4), { ...head, kvHeads: 3 }),
  ],
  [/^reshape: shape: expected 24 elements as in f32\[3, 8\], got \[5, 5\]$/, (g, x) => g.reshape(x, [5, 5])],
  [/^reshape: shape: expected an integer of at least 0, got 1.6$/, (g, x) => g.heads(x, 5)],
  [/^slice: end: expected an integer in 0\.\.8, got 9$/, (g, x) => g.slice(x, 1, 0, 9)],
  [/^slice: axis: expected an integer in 0\.\.1, got 2$/, (g, x) => g.slice(x, 2, 0, 1)],
  [
    /^concat: input 1: expected \[3, 4\], got f32\[2, 4\]$/,
    (g, x) => g.concat([g.slice(x, 1, 0, 4), g.slice(g.slice(x, 1, 0, 4), 0, 0, 2)], 1),
  ],
  [/^concat: inputs: expected 1 or more, got 0$/, (g) => g.concat([], 0)],
  [/^rows: indices: expected i32 of rank 1/, (g, x) => g.rows(x, x)],
  [/^silu: x: expected f32 of rank 1 or more, got i32\[3\]$/, (g, _, ids) => g.silu(ids)],
  [/^allGather: x: expected \[3, 5\], got \[3, 8\]$/, (g, x) => g.allGather(x, [8, 5], 1)],
  [/^allGather: rank: expected an integer in 0\.\.1, got 2$/, (g, x) => g.allGather(x, [8, 8], 2)],
  [/^allGather: widths: expected a width for each rank, got \[\]$/, (g, x) => g.allGather(x, [], 0)],
];

test('every mistake is refused where it is recorded, naming the op, what was expected and what came', () => {
  for (const [expected, record] of mistakes) {
    const g = new GraphBuilder();
    const x = g.input('x', [3, 8], 'f32');
    const ids = g.input('ids', [3], 'i32');
    let weights = 0;
    const weight = (...shape: number[]) => g.weight(`w${weights++}`, shape, 'f32');
    assert.throws(
      () => record(g, x, ids, weight),
      (thrown) =>
        thrown instanceof GraphError && expected.test(thrown.message) && thrown.code === 'GRAPH_NODE_INVALID',
      String(expected),
    );
  }
});

test('a builder refuses nodes of another graph and a name declared twice with two types', () => {
  const other = new GraphBuilder().input('x', [1, 1], 'f32');
  const g = new GraphBuilder();
  assert.throws(() => g.silu(other), /belongs to another graph/);
  assert.equal(g.weight('w', [2], 'f32'), g.weight('w', [2], 'f32'));
  assert.throws(() => g.weight('w', [3], 'f32'), /weight 'w' is declared twice/);
});

test('the spec refuses graphs that no builder would make', () => {
  const broken = (change: (nodes: GraphNode[]) => void, outputs?: Record<string, number>): Graph => {
    const graph = network();
    const nodes = graph.nodes.map((node) => ({ ...node }));
    change(nodes);
    return { nodes, outputs: outputs ?? graph.outputs };
  };
  const set = (id: number, change: object) => (nodes: GraphNode[]) => {
    nodes[id] = { ...nodes[id]!, ...change } as GraphNode;
  };
  const cases: [RegExp, Graph][] = [
    [/node 4: id 5 is not its index/, broken(set(4, { id: 5 }))],
    [/node 9: unknown op 'cosine'; known: input, weight, /, broken(set(9, { op: 'cosine' }))],
    [/node 9: silu: expected f32\[3, 4\], got f32\[3, 5\]/, broken(set(9, { shape: [3, 5] }))],
    [/node 9: silu: expected f32\[3, 4\], got f16\[3, 4\]/, broken(set(9, { dtype: 'f16' }))],
    [/node 9: unknown data type 'f8'/, broken(set(9, { dtype: 'f8' }))],
    [/node 9: silu: shape \[3,-4\] is not concrete/, broken(set(9, { shape: [3, -4] }))],
    [/node 9: silu: input 12 does not precede it/, broken(set(9, { inputs: [12] }))],
    [/node 9: silu: inputs: expected 1, got 2/, broken(set(9, { inputs: [8, 8] }))],
    [/node 5: weight: expected no inputs, got 1/, broken(set(5, { inputs: [0] }))],
    [/node 5: weight: has no name/, broken(set(5, { attributes: { name: '' } }))],
    [/node 7: weight 'norm' is declared twice/, broken(set(7, { attributes: { name: 'norm' } }))],
    [
      /node 8: linear: parts: expected rows that sum up to 4, got 3/,
      broken(set(8, { attributes: { parts: [{ name: 'up', rows: 3 }] } })),
    ],
    [/output 'logits' names node 99/, broken(() => {}, { logits: 99 })],
    [/the graph has no outputs/, broken(() => {}, {})],
  ];
  for (const [expected, graph] of cases) assert.throws(() => verifyGraph(graph), expected);
});

test('every op of the language has a rule', () => {
  assert.equal(opNames.length, 25);
  assert.equal(new Set(opNames).size, opNames.length);
});
