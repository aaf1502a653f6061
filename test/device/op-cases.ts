import type { BatchInputs, GraphBuilder, Value } from '../../src/graph/builder.ts';
import type { DType } from '../../src/graph/dtype.ts';
import type { KvSpec, Shape } from '../../src/graph/graph.ts';
import type { AttentionAttributes, RopeAttributes } from '../../src/graph/ops.ts';

/** A network of one op (and what it takes to feed it): x is [tokens, width], the result [tokens, outputs]. */
export interface OpCase {
  name: string;
  width: number;
  outputs: number;
  weights: Record<string, { shape: Shape; dtype: DType }>;
  kv: KvSpec;
  record(g: GraphBuilder, x: Value, weight: (name: string) => Value, batch: BatchInputs): Value;
  /** The type that decides how exact a device can be: of the linear's weight. */
  storage: DType;
}

type Parts = Partial<OpCase> & Pick<OpCase, 'name' | 'record'>;

function opCase(parts: Parts): OpCase {
  return { width: 64, outputs: 64, weights: {}, kv: { layers: [] }, storage: 'f32', ...parts };
}

const vector = { shape: [64], dtype: 'f32' } as const;

function linearCases(): OpCase[] {
  const types: [DType, number][] = [
    ['f32', 64],
    ['f16', 64],
    ['bf16', 64],
    ['q8_0', 64],
    ['q4_0', 64],
    ['q4_1', 64],
    ['q5_0', 64],
    ['q5_1', 64],
    ['q4_k', 256],
    ['q5_k', 256],
    ['q6_k', 256],
  ];
  return types.map(([dtype, width]) =>
    opCase({
      name: `linear ${dtype}`,
      width,
      outputs: 96,
      storage: dtype,
      weights: { w: { shape: [96, width], dtype }, b: { shape: [96], dtype: 'f32' } },
      record: (g, x, weight) => g.linear(x, { name: 'linear', weight: weight('w'), bias: weight('b') }),
    }),
  );
}

function elementwiseCases(): OpCase[] {
  const unary: Record<string, (g: GraphBuilder, x: Value) => Value> = {
    scale: (g, x) => g.scale(x, -1.5),
    silu: (g, x) => g.silu(x),
    'gelu tanh': (g, x) => g.gelu(x, 'tanh'),
    'gelu erf': (g, x) => g.gelu(x, 'erf'),
    'gelu quick': (g, x) => g.gelu(x, 'quick'),
    relu: (g, x) => g.relu(x),
    tanh: (g, x) => g.tanh(x),
    sigmoid: (g, x) => g.sigmoid(x),
    softmax: (g, x) => g.softmax(x),
    swiglu: (g, x) => g.swiglu(x, g.scale(x, 0.5)),
    'geglu tanh': (g, x) => g.geglu(x, g.scale(x, 0.5), 'tanh'),
    'geglu erf': (g, x) => g.geglu(x, g.scale(x, 0.5), 'erf'),
    add: (g, x) => g.add(x, g.relu(x)),
    multiply: (g, x) => g.multiply(x, g.relu(x)),
    'slice and concat': (g, x) => g.concat([g.slice(x, 1, 48, 64), g.slice(x, 1, 0, 48)], 1),
    'reshape, slice of heads, concat of heads': (g, x) => {
      const heads = g.heads(x, 4);
      const turned = g.concat([g.slice(heads, 1, 1, 4), g.slice(heads, 1, 0, 1)], 1);
      return g.reshape(turned, x.shape);
    },
  };
  const cases = Object.entries(unary).map(([name, record]) => opCase({ name, record }));
  const weights = { w: vector, b: vector };
  return cases.concat(
    opCase({ name: 'add, broadcast', weights, record: (g, x, w) => g.add(x, w('b')) }),
    opCase({ name: 'multiply, broadcast', weights, record: (g, x, w) => g.multiply(x, w('w')) }),
    opCase({ name: 'rmsNorm', weights, record: (g, x, w) => g.rmsNorm(x, w('w'), 1e-5) }),
    opCase({
      name: 'rmsNorm of heads',
      weights: { w: { shape: [16], dtype: 'f32' } },
      record: (g, x, w) => g.reshape(g.rmsNorm(g.heads(x, 4), w('w'), 1e-5), x.shape),
    }),
    opCase({ name: 'layerNorm', weights, record: (g, x, w) => g.layerNorm(x, w('w'), w('b'), 1e-5) }),
    opCase({
      name: 'layerNorm without bias',
      weights,
      record: (g, x, w) => g.layerNorm(x, w('w'), undefined, 1e-5),
    }),
  );
}

const plainRope: RopeAttributes = { mode: 'half', dimensions: 16, theta: 10000, frequencyScale: 1 };
const yarn = {
  originalContextLength: 32,
  extrapolationFactor: 1,
  attentionFactor: 1.2,
  betaFast: 32,
  betaSlow: 1,
};

function ropeCases(): OpCase[] {
  const variants: Record<string, RopeAttributes> = {
    half: plainRope,
    interleaved: { ...plainRope, mode: 'interleaved' },
    'half, partial': { ...plainRope, dimensions: 8 },
    'interleaved, partial': { ...plainRope, mode: 'interleaved', dimensions: 8 },
    linear: { ...plainRope, frequencyScale: 0.25 },
    yarn: { ...plainRope, frequencyScale: 0.25, yarn },
  };
  const turn = (g: GraphBuilder, x: Value, batch: BatchInputs, rope: RopeAttributes, factors?: Value) =>
    g.reshape(g.rope(g.heads(x, 4), batch.positions, rope, factors), x.shape);
  const cases = Object.entries(variants).map(([name, rope]) =>
    opCase({ name: `rope ${name}`, record: (g, x, _, batch) => turn(g, x, batch, rope) }),
  );
  return cases.concat(
    opCase({
      name: 'rope with frequency factors',
      weights: { factors: { shape: [8], dtype: 'f32' } },
      record: (g, x, w, batch) => turn(g, x, batch, plainRope, w('factors')),
    }),
  );
}

function attentionCases(): OpCase[] {
  const base: AttentionAttributes = {
    layer: 0,
    heads: 4,
    kvHeads: 4,
    headDimension: 16,
    valueHeadDimension: 16,
    scale: 0.25,
  };
  const variants: Record<string, AttentionAttributes> = {
    'every head its own': base,
    'grouped heads': { ...base, kvHeads: 2 },
    'one key head': { ...base, kvHeads: 1 },
    window: { ...base, kvHeads: 2, window: 3 },
    softcap: { ...base, softcap: 2 },
  };
  return Object.entries(variants).map(([name, attributes]) => {
    const elements = attributes.kvHeads * 16;
    const window = attributes.window === undefined ? {} : { window: attributes.window };
    return opCase({
      name: `attention, ${name}`,
      kv: { layers: [{ kind: 'self', keyElements: elements, valueElements: elements, ...window }] },
      record: (g, x) => {
        const part = g.heads(g.slice(x, 1, 64 - elements, 64), attributes.kvHeads);
        return g.attention(g.heads(x, 4), part, g.scale(part, 2), attributes);
      },
    });
  });
}

/** At least one case of every op but `allReduce`. */
export function opCases(): OpCase[] {
  return [...linearCases(), ...elementwiseCases(), ...ropeCases(), ...attentionCases()];
}
