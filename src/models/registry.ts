import { Registry } from '../base/registry.ts';
import type { Architecture } from './architecture.ts';
import { Config, type JsonRecord } from './config.ts';
import { ModelError } from './errors.ts';
import type { MetadataReader } from './metadata.ts';

/** Architectures by row name. Adding one: `docs/models-architectures.md`. */
export const architectures = new Registry<Architecture>('architecture', {
  llama: async () => (await import('./llama.ts')).architecture,
  qwen2: async () => (await import('./qwen2.ts')).architecture,
  qwen3: async () => (await import('./qwen3.ts')).architecture,
  gpt2: async () => (await import('./gpt2.ts')).architecture,
});

/** Rows by Hugging Face's class names. A test holds this against each row's own `names`. */
const classes = new Registry<Architecture>('model class', {
  LlamaForCausalLM: () => architectures.load('llama'),
  MistralForCausalLM: () => architectures.load('llama'),
  Qwen2ForCausalLM: () => architectures.load('qwen2'),
  Qwen3ForCausalLM: () => architectures.load('qwen3'),
  GPT2LMHeadModel: () => architectures.load('gpt2'),
});

/** Rows by GGUF's `general.architecture`. */
const ggufNames = new Registry<Architecture>('GGUF architecture', {
  llama: () => architectures.load('llama'),
  qwen2: () => architectures.load('qwen2'),
  qwen3: () => architectures.load('qwen3'),
  gpt2: () => architectures.load('gpt2'),
});

/** Hugging Face class names that Nereid runs. */
export const classNames: readonly string[] = classes.names;

/**
 * The architecture of a Hugging Face folder.
 * @throws UnknownNameError listing the known classes; ModelError when `config.json` names none
 */
export async function architectureOfConfig(record: JsonRecord): Promise<Architecture> {
  const [name] = new Config(record).strings('architectures') ?? [];
  if (name !== undefined) return classes.load(name);
  const message = `config.json names no class in 'architectures'; known: ${classNames.join(', ')}`;
  throw new ModelError('MODEL_CONFIG_INVALID', message);
}

/**
 * The architecture of a GGUF file.
 * @throws UnknownNameError listing the known ones; ModelError when the file names none
 */
export async function architectureOfGguf(metadata: MetadataReader): Promise<Architecture> {
  const name = metadata.optionalString('general.architecture');
  if (name !== undefined) return ggufNames.load(name);
  const message = `the GGUF has no 'general.architecture'; known: ${ggufNames.names.join(', ')}`;
  throw new ModelError('MODEL_CONFIG_INVALID', message);
}
