import { ModelError } from './errors.ts';
import type { Hyperparameters, RopeScaling } from './hyperparameters.ts';

/** What the architectures read of a GGUF's metadata; the checkpoint layer's `GgufMetadata` fits. */
export interface MetadataReader {
  optionalNumber(key: string): number | undefined;
  optionalString(key: string): string | undefined;
  optionalStrings(key: string): readonly string[] | undefined;
  optionalBooleans(key: string): readonly boolean[] | undefined;
}

/** A metadata value with its GGUF type; the checkpoint layer's `GgufValue` takes it as it is. */
export type MetadataValue =
  | { type: 'u32' | 'f32'; value: number }
  | { type: 'string'; value: string }
  | { type: 'array'; of: 'bool'; value: readonly boolean[] };

export type Metadata = ReadonlyMap<string, MetadataValue>;

/** Reads the keys of one GGUF architecture (`llama.block_count`); an error names the whole key. */
class Keys {
  readonly #reader: MetadataReader;
  readonly #prefix: string;

  constructor(reader: MetadataReader, prefix: string) {
    this.#reader = reader;
    this.#prefix = prefix;
  }

  count(key: string, fallback?: number): number {
    const value = this.#reader.optionalNumber(`${this.#prefix}.${key}`) ?? fallback;
    if (value !== undefined && Number.isInteger(value) && value >= 1) return value;
    throw this.#wrong(key, 'a whole number of at least 1', value);
  }

  positive(key: string, fallback?: number): number {
    const value = this.#reader.optionalNumber(`${this.#prefix}.${key}`) ?? fallback;
    if (value !== undefined && Number.isFinite(value) && value > 0) return value;
    throw this.#wrong(key, 'a number above 0', value);
  }

  /** A count that 0 or absence turns off. */
  optionalCount(key: string): number | undefined {
    const value = this.#reader.optionalNumber(`${this.#prefix}.${key}`);
    return value ? this.count(key) : undefined;
  }

  string(key: string): string | undefined {
    return this.#reader.optionalString(`${this.#prefix}.${key}`);
  }

  booleans(key: string): readonly boolean[] | undefined {
    return this.#reader.optionalBooleans(`${this.#prefix}.${key}`);
  }

  unsupported(key: string, got: string, known: string): ModelError {
    return new ModelError(
      'MODEL_UNSUPPORTED',
      `GGUF metadata: ${this.#prefix}.${key} is ${got}; supported: ${known}`,
    );
  }

  #wrong(key: string, expected: string, value: number | undefined): ModelError {
    const got = value === undefined ? 'it is absent' : `it is ${value}`;
    const message = `GGUF metadata: ${this.#prefix}.${key} must be ${expected}, but ${got}`;
    return new ModelError('MODEL_CONFIG_INVALID', message);
  }
}

/** How a family's keys differ from the common set. */
export interface MetadataOptions {
  architecture: string;
  ggufName: string;
  norm: 'rms' | 'layer';
  rope: boolean;
}

const normKeys = { rms: 'attention.layer_norm_rms_epsilon', layer: 'attention.layer_norm_epsilon' };

/**
 * Hyperparameters from the keys that llama.cpp's converters write.
 * @throws ModelError naming the key
 */
export function readMetadata(reader: MetadataReader, options: MetadataOptions): Hyperparameters {
  const keys = new Keys(reader, options.ggufName);
  if (keys.optionalCount('expert_count')) throw keys.unsupported('expert_count', 'given', 'dense models');
  const width = keys.count('embedding_length');
  const heads = keys.count('attention.head_count');
  const headDimension = keys.count('attention.key_length', width / heads);
  const valueDimension = keys.count('attention.value_length', headDimension);
  if (valueDimension !== headDimension) {
    throw keys.unsupported('attention.value_length', `${valueDimension}`, `${headDimension}, as key_length`);
  }
  const vocabulary = reader.optionalStrings('tokenizer.ggml.tokens')?.length;
  const window = keys.optionalCount('attention.sliding_window');
  const windowLayers = keys.booleans('attention.sliding_window_pattern');
  const scaling = options.rope ? readScaling(keys) : undefined;
  return {
    architecture: options.architecture,
    layers: keys.count('block_count'),
    width,
    heads,
    kvHeads: keys.count('attention.head_count_kv', heads),
    headDimension,
    feedForwardWidth: keys.count('feed_forward_length'),
    vocabularySize: keys.count('vocab_size', vocabulary),
    contextLength: keys.count('context_length'),
    normEpsilon: keys.positive(normKeys[options.norm]),
    ...(options.rope && {
      rope: {
        theta: keys.positive('rope.freq_base', 10000),
        dimensions: keys.count('rope.dimension_count', headDimension),
        ...(scaling && { scaling }),
      },
    }),
    ...(window && { window }),
    ...(window && windowLayers && { windowLayers }),
    // A GGUF that ties them simply has no `output.weight`.
    tiedEmbeddings: false,
  };
}

function readScaling(keys: Keys): RopeScaling | undefined {
  const type = keys.string('rope.scaling.type') ?? 'none';
  if (type === 'none') return undefined;
  const factor = keys.positive('rope.scaling.factor', 1);
  if (type === 'linear') return { type: 'linear', factor };
  if (type !== 'yarn') throw keys.unsupported('rope.scaling.type', `'${type}'`, 'none, linear, yarn');
  return {
    type: 'yarn',
    factor,
    originalContextLength: keys.count('rope.scaling.original_context_length', keys.count('context_length')),
    attentionFactor: keys.positive('rope.scaling.attn_factor', 1),
    betaFast: keys.positive('rope.scaling.yarn_beta_fast', 32),
    betaSlow: keys.positive('rope.scaling.yarn_beta_slow', 1),
  };
}

/** The inverse of {@link readMetadata}: the keys that a GGUF of this model carries, `general.architecture` included. */
export function writeMetadata(p: Hyperparameters, options: MetadataOptions): Metadata {
  const metadata = new Map<string, MetadataValue>([
    ['general.architecture', { type: 'string', value: options.ggufName }],
  ]);
  const set = (key: string, value: MetadataValue) => metadata.set(`${options.ggufName}.${key}`, value);
  const count = (key: string, value: number) => set(key, { type: 'u32', value });
  count('block_count', p.layers);
  count('context_length', p.contextLength);
  count('embedding_length', p.width);
  count('feed_forward_length', p.feedForwardWidth);
  count('attention.head_count', p.heads);
  count('attention.head_count_kv', p.kvHeads);
  count('vocab_size', p.vocabularySize);
  set(normKeys[options.norm], { type: 'f32', value: p.normEpsilon });
  if (p.rope) {
    count('attention.key_length', p.headDimension);
    count('attention.value_length', p.headDimension);
    count('rope.dimension_count', p.rope.dimensions);
    set('rope.freq_base', { type: 'f32', value: p.rope.theta });
    for (const [key, value] of scalingMetadata(p.rope.scaling)) set(`rope.scaling.${key}`, value);
  }
  if (p.window) count('attention.sliding_window', p.window);
  if (p.windowLayers) {
    set('attention.sliding_window_pattern', { type: 'array', of: 'bool', value: p.windowLayers });
  }
  return metadata;
}

function scalingMetadata(scaling: RopeScaling | undefined): [string, MetadataValue][] {
  // Llama 3's scaling travels as the tensor `rope_freqs.weight`.
  if (!scaling || scaling.type === 'llama3') return [];
  const entries: [string, MetadataValue][] = [
    ['type', { type: 'string', value: scaling.type }],
    ['factor', { type: 'f32', value: scaling.factor }],
  ];
  if (scaling.type === 'yarn') {
    entries.push(['original_context_length', { type: 'u32', value: scaling.originalContextLength }]);
    entries.push(['attn_factor', { type: 'f32', value: scaling.attentionFactor }]);
    entries.push(['yarn_beta_fast', { type: 'f32', value: scaling.betaFast }]);
    entries.push(['yarn_beta_slow', { type: 'f32', value: scaling.betaSlow }]);
  }
  return entries;
}
