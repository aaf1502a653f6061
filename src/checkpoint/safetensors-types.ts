import type { DType } from '../graph/dtype.ts';

interface SafetensorsTypeInfo {
  bits: number;
  /** What Nereid calls it; absent where no device computes with it. */
  dtype?: DType;
}

/** Every element type of the safetensors format (`safetensors`, `Dtype`), by its name in the header. */
export const safetensorsTypes = {
  BOOL: { bits: 8 },
  F4: { bits: 4 },
  F6_E2M3: { bits: 6 },
  F6_E3M2: { bits: 6 },
  U8: { bits: 8 },
  I8: { bits: 8, dtype: 'i8' },
  F8_E5M2: { bits: 8 },
  F8_E4M3: { bits: 8 },
  F8_E8M0: { bits: 8 },
  F8_E4M3FNUZ: { bits: 8 },
  F8_E5M2FNUZ: { bits: 8 },
  I16: { bits: 16, dtype: 'i16' },
  U16: { bits: 16 },
  F16: { bits: 16, dtype: 'f16' },
  BF16: { bits: 16, dtype: 'bf16' },
  I32: { bits: 32, dtype: 'i32' },
  U32: { bits: 32 },
  F32: { bits: 32, dtype: 'f32' },
  C64: { bits: 64 },
  F64: { bits: 64, dtype: 'f64' },
  I64: { bits: 64, dtype: 'i64' },
  U64: { bits: 64 },
} as const satisfies Record<string, SafetensorsTypeInfo>;

export type SafetensorsType = keyof typeof safetensorsTypes;

/** Whether the format has a type of this name. */
export function isSafetensorsType(name: string): name is SafetensorsType {
  return Object.hasOwn(safetensorsTypes, name);
}

/** Nereid's name for a safetensors type; undefined for types that no device computes with (masks, packed integers, fp8). */
export function dtypeOfSafetensors(type: SafetensorsType): DType | undefined {
  return (safetensorsTypes[type] as SafetensorsTypeInfo).dtype;
}

/** The safetensors type that stores `dtype`, or undefined for ggml's block types. */
export function safetensorsTypeOf(dtype: DType): SafetensorsType | undefined {
  return (Object.keys(safetensorsTypes) as SafetensorsType[]).find(
    (type) => dtypeOfSafetensors(type) === dtype,
  );
}
