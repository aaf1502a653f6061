import { GraphError } from './errors.ts';
import type { AttentionAttributes, Op, OpAttributes, RopeAttributes } from './ops.ts';
import { elementCount, RuleContext, rowLength, sameShape, type TensorType, typeText } from './rules.ts';

type Rule<O extends Op> = (context: RuleContext, attributes: OpAttributes[O]) => TensorType;

const f32 = (shape: readonly number[]): TensorType => ({ shape, dtype: 'f32' });

const elementwise = (context: RuleContext): TensorType => {
  context.arity(1);
  return f32(context.activation(0, 'x').shape);
};

const gated = (context: RuleContext): TensorType => {
  context.arity(2);
  const gate = context.activation(0, 'gate');
  context.shape(context.activation(1, 'up'), 'up', gate.shape);
  return f32(gate.shape);
};

const broadcasting = (context: RuleContext): TensorType => {
  context.arity(2);
  const a = context.activation(0, 'a');
  const b = context.activation(1, 'b');
  const leading = a.shape.length - b.shape.length;
  const suffix = leading < 0 ? [] : a.shape.slice(leading);
  if (!sameShape(suffix, b.shape)) {
    context.fail('b', `the shape of a (${typeText(a)}) or its trailing dimensions`, typeText(b));
  }
  return f32(a.shape);
};

const linear: Rule<'linear'> = (context, { parts, split }) => {
  context.arity(2, 3);
  const [tokens = 0, width = 0] = context.activation(0, 'x', 2).shape;
  const weight = context.stored(1, 'weight', 2);
  const [out = 0, columns = 0] = weight.shape;
  if (columns !== width) context.fail('weight', `[out, ${width}]`, typeText(weight));
  if (context.inputs.length === 3) context.vector(2, 'bias', out);
  for (const part of parts) context.integer(part.rows, `rows of part '${part.name}'`, 1);
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  if (rows !== out) context.fail('parts', `rows that sum up to ${out}`, `${rows}`);
  if (split !== undefined && split !== 'column' && split !== 'row') {
    context.fail('split', "'column' or 'row'", String(split));
  }
  return f32([tokens, out]);
};

const rope: Rule<'rope'> = (context, attributes) => {
  context.arity(2, 3);
  const x = context.activation(0, 'x', 3);
  const [tokens = 0, , headDimension = 0] = x.shape;
  const positions = context.indices(1, 'positions');
  if (positions !== tokens) context.fail('positions', `[${tokens}]`, `[${positions}]`);
  checkRope(context, attributes, headDimension);
  if (context.inputs.length === 3) context.vector(2, 'frequencyFactors', attributes.dimensions / 2);
  return f32(x.shape);
};

function checkRope(context: RuleContext, attributes: RopeAttributes, headDimension: number): void {
  const { mode, dimensions, theta, frequencyScale, yarn } = attributes;
  if (mode !== 'interleaved' && mode !== 'half') {
    context.fail('mode', "'interleaved' or 'half'", String(mode));
  }
  context.integer(dimensions, 'dimensions', 2, headDimension);
  if (dimensions % 2 !== 0) context.fail('dimensions', 'an even number', `${dimensions}`);
  context.number(theta, 'theta', 0);
  context.number(frequencyScale, 'frequencyScale', 0);
  if (!yarn) return;
  context.integer(yarn.originalContextLength, 'yarn.originalContextLength', 1);
  context.number(yarn.extrapolationFactor, 'yarn.extrapolationFactor');
  context.number(yarn.attentionFactor, 'yarn.attentionFactor', 0);
  context.number(yarn.betaFast, 'yarn.betaFast', 0);
  context.number(yarn.betaSlow, 'yarn.betaSlow', 0);
}

const attention: Rule<'attention'> = (context, attributes) => {
  context.arity(3);
  const { heads, kvHeads, headDimension, valueHeadDimension } = attributes;
  checkAttention(context, attributes);
  const q = context.activation(0, 'q', 3);
  const tokens = q.shape[0] ?? 0;
  context.shape(q, 'q', [tokens, heads, headDimension]);
  context.shape(context.activation(1, 'k', 3), 'k', [tokens, kvHeads, headDimension]);
  context.shape(context.activation(2, 'v', 3), 'v', [tokens, kvHeads, valueHeadDimension]);
  return f32([tokens, heads * valueHeadDimension]);
};

function checkAttention(context: RuleContext, attributes: AttentionAttributes): void {
  const { layer, heads, kvHeads, headDimension, valueHeadDimension, scale, window, softcap } = attributes;
  context.integer(layer, 'layer', 0);
  context.integer(heads, 'heads', 1);
  context.integer(kvHeads, 'kvHeads', 1);
  if (heads % kvHeads !== 0) context.fail('kvHeads', `a divisor of ${heads} heads`, `${kvHeads}`);
  context.integer(headDimension, 'headDimension', 1);
  context.integer(valueHeadDimension, 'valueHeadDimension', 1);
  context.number(scale, 'scale', 0);
  if (window !== undefined) context.integer(window, 'window', 1);
  if (softcap !== undefined) context.number(softcap, 'softcap', 0);
}

const slice: Rule<'slice'> = (context, { axis, start, end }) => {
  context.arity(1);
  const { shape } = context.activation(0, 'x');
  context.integer(axis, 'axis', 0, shape.length - 1);
  context.integer(end, 'end', 0, shape[axis]);
  context.integer(start, 'start', 0, end);
  return f32(shape.map((size, index) => (index === axis ? end - start : size)));
};

const concat: Rule<'concat'> = (context, { axis }) => {
  context.arity(1, Infinity);
  const { shape } = context.activation(0, 'input 0');
  context.integer(axis, 'axis', 0, shape.length - 1);
  let joined = 0;
  for (let index = 0; index < context.inputs.length; index++) {
    const other = context.activation(index, `input ${index}`, shape.length);
    const expected = shape.map((size, at) => (at === axis ? (other.shape[at] ?? 0) : size));
    context.shape(other, `input ${index}`, expected);
    joined += other.shape[axis] ?? 0;
  }
  return f32(shape.map((size, index) => (index === axis ? joined : size)));
};

const reshape: Rule<'reshape'> = (context, { shape }) => {
  context.arity(1);
  const x = context.activation(0, 'x');
  for (const size of shape) context.integer(size, 'shape', 0);
  if (elementCount(shape) !== elementCount(x.shape)) {
    context.fail('shape', `${elementCount(x.shape)} elements as in ${typeText(x)}`, `[${shape.join(', ')}]`);
  }
  return f32(shape);
};

const allGather: Rule<'allGather'> = (context, { widths, rank }) => {
  context.arity(1);
  const [rows = 0, width = 0] = context.activation(0, 'x', 2).shape;
  if (widths.length === 0) context.fail('widths', 'a width for each rank', '[]');
  for (const own of widths) context.integer(own, 'widths', 1);
  context.integer(rank, 'rank', 0, widths.length - 1);
  if (width !== widths[rank]) context.fail('x', `[${rows}, ${widths[rank]}]`, `[${rows}, ${width}]`);
  return f32([rows, widths.reduce((sum, own) => sum + own, 0)]);
};

/** Declared ops carry their type themselves: their node's shape and dtype are checked by `spec.ts` instead. */
type InferredOp = Exclude<Op, 'input' | 'weight'>;

const rules: { [O in InferredOp]: Rule<O> } = {
  embedding: (context) => {
    context.arity(2);
    const table = context.stored(0, 'table', 2);
    return f32([context.indices(1, 'ids'), rowLength(table.shape)]);
  },
  linear,
  rmsNorm: (context, { epsilon }) => {
    context.arity(2);
    const x = context.activation(0, 'x');
    context.vector(1, 'weight', rowLength(x.shape));
    context.number(epsilon, 'epsilon', 0);
    return f32(x.shape);
  },
  layerNorm: (context, { epsilon }) => {
    context.arity(2, 3);
    const x = context.activation(0, 'x');
    context.vector(1, 'weight', rowLength(x.shape));
    if (context.inputs.length === 3) context.vector(2, 'bias', rowLength(x.shape));
    context.number(epsilon, 'epsilon', 0);
    return f32(x.shape);
  },
  add: broadcasting,
  multiply: broadcasting,
  scale: (context, { factor }) => {
    context.number(factor, 'factor');
    return elementwise(context);
  },
  silu: elementwise,
  gelu: (context, { approximation }) => {
    checkGelu(context, approximation);
    return elementwise(context);
  },
  relu: elementwise,
  tanh: elementwise,
  sigmoid: elementwise,
  swiglu: gated,
  geglu: (context, { approximation }) => {
    checkGelu(context, approximation);
    return gated(context);
  },
  rope,
  attention,
  reshape,
  rows: (context) => {
    context.arity(2);
    const [, width = 0] = context.activation(0, 'x', 2).shape;
    return f32([context.indices(1, 'indices'), width]);
  },
  slice,
  concat,
  softmax: elementwise,
  allReduce: elementwise,
  allGather,
};

function checkGelu(context: RuleContext, approximation: string): void {
  if (approximation === 'tanh' || approximation === 'erf' || approximation === 'quick') return;
  context.fail('approximation', "'tanh', 'erf' or 'quick'", approximation);
}

/**
 * The type of an op's result, after checking its inputs and attributes.
 * @throws GraphError naming the op, the input or attribute, what was expected and what came
 */
export function inferType<O extends InferredOp>(
  op: O,
  inputs: readonly TensorType[],
  attributes: OpAttributes[O],
): TensorType {
  if (!Object.hasOwn(rules, op)) {
    throw new GraphError('GRAPH_NODE_INVALID', `unknown op '${op}'; known: ${opNames.join(', ')}`);
  }
  return rules[op](new RuleContext(op, inputs), attributes);
}

/** Every op of the language. */
export const opNames = ['input', 'weight', ...Object.keys(rules)] as Op[];
