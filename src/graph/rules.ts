import type { DType } from './dtype.ts';
import { GraphError } from './errors.ts';
import type { Shape } from './graph.ts';
import type { Op } from './ops.ts';

/** What a rule knows of an input, and what it concludes about the result. */
export interface TensorType {
  readonly shape: Shape;
  readonly dtype: DType;
}

/** `f32[3, 64]` */
export function typeText(type: TensorType): string {
  return `${type.dtype}[${type.shape.join(', ')}]`;
}

/** Whether two shapes have the same dimensions. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** Elements of a tensor of this shape; 1 for a scalar. */
export function elementCount(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** The innermost dimension: a row's length. */
export function rowLength(shape: Shape): number {
  return shape[shape.length - 1] ?? 1;
}

/**
 * The checks that the ops' rules are written in. Each throws a {@link GraphError} that names the op, the input (or attribute), what was
 * expected and what came.
 */
export class RuleContext {
  readonly op: Op;
  readonly inputs: readonly TensorType[];

  constructor(op: Op, inputs: readonly TensorType[]) {
    this.op = op;
    this.inputs = inputs;
  }

  fail(subject: string, expected: string, got: string): never {
    throw new GraphError('GRAPH_NODE_INVALID', `${this.op}: ${subject}: expected ${expected}, got ${got}`);
  }

  arity(least: number, most = least): void {
    const count = this.inputs.length;
    const expected =
      least === most ? `${least}` : most === Infinity ? `${least} or more` : `${least} to ${most}`;
    if (count < least || count > most) this.fail('inputs', expected, `${count}`);
  }

  input(index: number, name: string): TensorType {
    return this.inputs[index] ?? this.fail(name, 'an input', 'none');
  }

  /** An activation: f32 of the given rank (any rank of at least 1 where none is given). */
  activation(index: number, name: string, rank?: number): TensorType {
    const type = this.input(index, name);
    const rankFits = rank === undefined ? type.shape.length >= 1 : type.shape.length === rank;
    const expected = rank === undefined ? 'f32 of rank 1 or more' : `f32 of rank ${rank}`;
    if (type.dtype !== 'f32' || !rankFits) this.fail(name, expected, typeText(type));
    return type;
  }

  /** A stored matrix or vector of any number type (block-quantized ones included). */
  stored(index: number, name: string, rank: number): TensorType {
    const type = this.input(index, name);
    const integer =
      type.dtype === 'i8' || type.dtype === 'i16' || type.dtype === 'i32' || type.dtype === 'i64';
    if (integer || type.shape.length !== rank) this.fail(name, `a weight of rank ${rank}`, typeText(type));
    return type;
  }

  vector(index: number, name: string, length: number): void {
    const type = this.stored(index, name, 1);
    if (type.shape[0] !== length) this.fail(name, `[${length}]`, typeText(type));
  }

  indices(index: number, name: string): number {
    const type = this.input(index, name);
    if (type.dtype !== 'i32' || type.shape.length !== 1) this.fail(name, 'i32 of rank 1', typeText(type));
    return type.shape[0] ?? 0;
  }

  shape(type: TensorType, name: string, shape: Shape): void {
    if (!sameShape(type.shape, shape)) this.fail(name, `[${shape.join(', ')}]`, typeText(type));
  }

  /** A dimension, count or axis: an integer in [least, most]. */
  integer(value: number, name: string, least: number, most = Number.MAX_SAFE_INTEGER): void {
    if (Number.isInteger(value) && value >= least && value <= most) return;
    const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `in ${least}..${most}`;
    this.fail(name, `an integer ${range}`, `${value}`);
  }

  /** A finite number above `above`. */
  number(value: number, name: string, above = -Infinity): void {
    if (Number.isFinite(value) && value > above) return;
    this.fail(name, above === -Infinity ? 'a finite number' : `a number above ${above}`, `${value}`);
  }
}
