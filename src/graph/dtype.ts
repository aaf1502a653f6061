import { NereidError } from '../base/errors.ts';

/** How a tensor's elements are stored: in blocks of `blockElements` elements that take `blockBytes` bytes. */
export interface DTypeInfo {
  /** ggml's type id, as GGUF files carry it (`ggml.h`, `enum ggml_type`). */
  ggmlId: number;
  blockElements: number;
  blockBytes: number;
}

/**
 * Every storage type that ggml knows, by ggml's own names in lower case. Sizes are checked against the loaded ggml library by the
 * ggml device at start, and against `@huggingface/gguf` in tests.
 */
export const dtypes = {
  f32: { ggmlId: 0, blockElements: 1, blockBytes: 4 },
  f16: { ggmlId: 1, blockElements: 1, blockBytes: 2 },
  q4_0: { ggmlId: 2, blockElements: 32, blockBytes: 18 },
  q4_1: { ggmlId: 3, blockElements: 32, blockBytes: 20 },
  q5_0: { ggmlId: 6, blockElements: 32, blockBytes: 22 },
  q5_1: { ggmlId: 7, blockElements: 32, blockBytes: 24 },
  q8_0: { ggmlId: 8, blockElements: 32, blockBytes: 34 },
  q8_1: { ggmlId: 9, blockElements: 32, blockBytes: 36 },
  q2_k: { ggmlId: 10, blockElements: 256, blockBytes: 84 },
  q3_k: { ggmlId: 11, blockElements: 256, blockBytes: 110 },
  q4_k: { ggmlId: 12, blockElements: 256, blockBytes: 144 },
  q5_k: { ggmlId: 13, blockElements: 256, blockBytes: 176 },
  q6_k: { ggmlId: 14, blockElements: 256, blockBytes: 210 },
  q8_k: { ggmlId: 15, blockElements: 256, blockBytes: 292 },
  iq2_xxs: { ggmlId: 16, blockElements: 256, blockBytes: 66 },
  iq2_xs: { ggmlId: 17, blockElements: 256, blockBytes: 74 },
  iq3_xxs: { ggmlId: 18, blockElements: 256, blockBytes: 98 },
  iq1_s: { ggmlId: 19, blockElements: 256, blockBytes: 50 },
  iq4_nl: { ggmlId: 20, blockElements: 32, blockBytes: 18 },
  iq3_s: { ggmlId: 21, blockElements: 256, blockBytes: 110 },
  iq2_s: { ggmlId: 22, blockElements: 256, blockBytes: 82 },
  iq4_xs: { ggmlId: 23, blockElements: 256, blockBytes: 136 },
  i8: { ggmlId: 24, blockElements: 1, blockBytes: 1 },
  i16: { ggmlId: 25, blockElements: 1, blockBytes: 2 },
  i32: { ggmlId: 26, blockElements: 1, blockBytes: 4 },
  i64: { ggmlId: 27, blockElements: 1, blockBytes: 8 },
  f64: { ggmlId: 28, blockElements: 1, blockBytes: 8 },
  iq1_m: { ggmlId: 29, blockElements: 256, blockBytes: 56 },
  bf16: { ggmlId: 30, blockElements: 1, blockBytes: 2 },
  tq1_0: { ggmlId: 34, blockElements: 256, blockBytes: 54 },
  tq2_0: { ggmlId: 35, blockElements: 256, blockBytes: 66 },
  mxfp4: { ggmlId: 39, blockElements: 32, blockBytes: 17 },
} as const satisfies Record<string, DTypeInfo>;

export type DType = keyof typeof dtypes;

/** A storage type that Nereid does not know, or that a row length does not fit. */
export class DTypeError extends NereidError {
  constructor(code: 'DTYPE_UNKNOWN' | 'DTYPE_ROW_LENGTH', message: string) {
    super(code, 'unsupported', message);
  }
}

export const dtypeNames = Object.keys(dtypes) as DType[];

/** Whether `name` is one of {@link dtypes}, in lower case. */
export function isDType(name: string): name is DType {
  return Object.hasOwn(dtypes, name);
}

/** @throws DTypeError naming the known types */
export function parseDType(name: string): DType {
  const lower = name.toLowerCase();
  if (isDType(lower)) return lower;
  throw new DTypeError('DTYPE_UNKNOWN', `unknown data type '${name}'; known: ${dtypeNames.join(', ')}`);
}

/** The type that a GGUF file means by `ggmlId`, or undefined where Nereid knows none. */
export function dtypeOfGgmlId(ggmlId: number): DType | undefined {
  return dtypeNames.find((name) => dtypes[name].ggmlId === ggmlId);
}

/** Whether elements are packed in blocks with shared scales. */
export function isQuantized(dtype: DType): boolean {
  return dtypes[dtype].blockElements > 1;
}

/**
 * Bytes of one row of `elements` elements.
 * @throws DTypeError when the row is not a whole number of blocks
 */
export function rowBytes(dtype: DType, elements: number): number {
  const { blockElements, blockBytes } = dtypes[dtype];
  if (elements % blockElements !== 0) {
    const fix = 'keep this tensor in f16 or f32';
    const problem = `rows of ${elements} elements are not a multiple of ${dtype}'s block of ${blockElements}`;
    throw new DTypeError('DTYPE_ROW_LENGTH', `${problem}; ${fix}`);
  }
  return (elements / blockElements) * blockBytes;
}
