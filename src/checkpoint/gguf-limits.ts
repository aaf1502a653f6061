/**
 * What a GGUF may ask of us. All are far above real files (the largest known vocabulary has 262,144 words, the largest models about
 * 150,000 tensors before experts are stacked), and low enough that a hostile file costs little.
 */
export const ggufLimits = {
  tensorsMax: 262_144,
  metadataEntriesMax: 65_536,
  /** Everything before the tensor data. */
  metadataBytesMax: 256 * 1024 * 1024,
  /** The format's own limit for keys. */
  keyBytesMax: 65_535,
  /** ggml itself stops at 63; other writers do not. */
  tensorNameBytesMax: 1024,
  /** Whole tokenizer.json files are found as one string. */
  stringBytesMax: 64 * 1024 * 1024,
  arrayElementsMax: 16 * 1024 * 1024,
  /** Strings, booleans and arrays in arrays, all together: each costs far more in memory than in the file. */
  arrayObjectsMax: 4 * 1024 * 1024,
  arrayDepthMax: 4,
  dimensionsMax: 4,
  alignmentBytesMax: 2 * 1024 * 1024,
  shardsMax: 1024,
} as const;

/** The longest tensor name that ggml loads (`GGML_MAX_NAME` less the closing zero); the writer keeps to it. */
export const ggmlNameBytesMax = 63;

/** Alignment of tensor data where the file does not say. */
export const alignmentBytesDefault = 32;

/** First four bytes of every GGUF file. */
export const ggufMagic = 'GGUF';

/** The next multiple of `alignmentBytes` at or after `position`. */
export function alignUp(position: number, alignmentBytes: number): number {
  return Math.ceil(position / alignmentBytes) * alignmentBytes;
}
