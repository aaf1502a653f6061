import { readFileSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import { didYouMean } from '../../base/nearest.ts';
import { britonPortDefault } from '../../protocol/briton/limits.ts';
import { parseTextFormat, type TextScalar, type TextValue } from '../../repository/config/text-format.ts';
import type { AdapterSettings } from '../../runtime/adapters/adapter.ts';
import { lookaheadAsLookup, lookaheadRule } from '../../runtime/speculation/lookahead.ts';
import { CliError } from '../errors.ts';
import type { ServeOptions } from './options.ts';

/** What a BritonConfig file says, in our terms, and what of it means nothing here. */
export interface BritonConfig {
  options: Partial<ServeOptions>;
  /** How LoRA adapters are kept. */
  adapters: Partial<AdapterSettings>;
  /** One line for each field that changes nothing, with the reason. */
  notes: string[];
}

/** Bytes of a BritonConfig file: real ones have a few hundred (a vocabulary for xgrammar may make one large). */
const configBytesMax = 64 * 1024 * 1024;

/** How a field is read into options; a text is a note instead. */
type Field = (values: readonly TextValue[], name: string) => Read | string;

/** `lora` stands for the engine's settings of adapters. */
type Read = Partial<ServeOptions> & { lora?: Partial<AdapterSettings> };

const noMedusa = 'Medusa heads are not served';

/** Every field of BritonConfig by name; those whose numbers are not public are known by name as well. */
const fields: Record<string, Field> = {
  engine_path: (values, name) => ({ models: [textOf(values, name)] }),
  hf_tokenizer: (values, name) => ({ tokenizerFolder: tokenizerFolderOf(textOf(values, name)) }),
  batch_scheduler_policy: (values, name) => ({ capacityPolicy: policyOf(one(values, name)) }),
  enable_trt_overlap: (values, name) => ({ stepsInFlight: flagOf(values, name) ? 2 : 1 }),
  max_tokens_in_paged_kv_cache: (values, name) => ({ kvTokensMax: integerOf(values, name) }),
  kv_cache_free_gpu_mem_fraction: (values, name) => ({ kvMemoryShare: shareOf(values, name) }),
  kv_cache_host_memory_bytes: (values, name) => ({ kvHostCacheBytes: integerOf(values, name) }),
  enable_kv_cache_reuse: (values, name) => ({ prefixReuse: flagOf(values, name) }),
  max_num_tokens: (values, name) => ({ maxBatchTokens: integerOf(values, name) }),
  port: (values, name) => ({ britonPort: integerOf(values, name) }),
  enable_chunked_context: (values, name) =>
    flagOf(values, name) ? {} : 'long prompts are always computed in chunks, of what the step budget leaves',
  medusa_decoding_mode: () => noMedusa,
  lookahead_decoding_config: (values, name) => ({ speculation: lookaheadOf(values, name) }),
  lora_cache_max_adapter_size: (values, name) => ({ lora: { rankMax: integerOf(values, name) } }),
  lora_cache_optimal_adapter_size: (values, name) => ({ lora: { rankUsual: integerOf(values, name) } }),
  lora_cache_gpu_memory_fraction: () =>
    'room for adapters is what --max-loras of them take; give --lora-device-cache-size',
  lora_cache_host_memory_bytes: (values, name) => ({ lora: { hostBytesMax: integerOf(values, name) } }),
  fsm_cache_dir: (values, name) => ({ britonSchemas: textOf(values, name) }),
  xgrammar_config: () => 'the vocabulary is read from tokenizer.json',
  added_tokens: () => 'they are read from tokenizer.json',
};

/**
 * Reads a BritonConfig file (protobuf text format).
 * @throws CliError BRITON_CONFIG_INVALID naming file, field and what it takes
 */
export function readBritonConfig(path: string): BritonConfig {
  const message = parse(path);
  const config: BritonConfig = { options: { britonPort: britonPortDefault }, adapters: {}, notes: [] };
  for (const [name, values] of message) {
    const field = fields[name];
    if (!field)
      throw invalid(
        path,
        `it has no field '${name}'${didYouMean(name, Object.keys(fields))}; see docs/briton.md`,
      );
    let read: Read | string;
    try {
      read = field(values, name);
    } catch (thrown) {
      throw invalid(path, messageOf(thrown));
    }
    if (typeof read === 'string') config.notes.push(`${name} changes nothing here: ${read}`);
    else if (read.lora) Object.assign(config.adapters, read.lora);
    else Object.assign(config.options, read);
  }
  return config;
}

function parse(path: string): Map<string, TextValue[]> {
  try {
    const { size } = statSync(path);
    if (size > configBytesMax) throw new Error(`it has ${size} bytes; at most ${configBytesMax} are read`);
    return parseTextFormat(readFileSync(path, 'utf8')).fields;
  } catch (cause) {
    throw invalid(path, messageOf(cause), cause);
  }
}

function invalid(path: string, why: string, cause?: unknown): CliError {
  return new CliError('BRITON_CONFIG_INVALID', `${path} is no BritonConfig: ${why}`, { cause });
}

function one(values: readonly TextValue[], name: string): TextScalar {
  const [value] = values;
  if (values.length === 1 && value && value.kind !== 'message') return value;
  throw new Error(`${name} takes one value`);
}

function textOf(values: readonly TextValue[], name: string): string {
  const { kind, text } = one(values, name);
  if (kind === 'string' && text !== '') return text;
  throw new Error(`${name} takes a text in quotes`);
}

function flagOf(values: readonly TextValue[], name: string): boolean {
  const { text } = one(values, name);
  if (/^(true|True|t|1)$/.test(text)) return true;
  if (/^(false|False|f|0)$/.test(text)) return false;
  throw new Error(`${name} takes true or false`);
}

function integerOf(values: readonly TextValue[], name: string): number {
  const value = Number(one(values, name).text);
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new Error(`${name} takes an integer above 0`);
}

function shareOf(values: readonly TextValue[], name: string): number {
  const value = Number(one(values, name).text);
  if (value > 0 && value <= 1) return value;
  throw new Error(`${name} takes a share above 0 up to 1`);
}

function lookaheadOf([value]: readonly TextValue[], name: string): ServeOptions['speculation'] {
  if (value?.kind !== 'message')
    throw new Error(`${name} takes { window_size ngram_size verification_set_size }`);
  const size = (field: string): number => Number(one(value.fields.get(field) ?? [], field).text);
  const choice = lookaheadAsLookup({
    window: size('window_size'),
    ngram: size('ngram_size'),
    verification: size('verification_set_size'),
  });
  if (choice) return { method: 'ngram', ...choice };
  throw new Error(`${name}: ${lookaheadRule}`);
}

function policyOf({ text }: TextScalar): string {
  if (text === 'MAX_UTILIZATION' || text === '0') return 'max_utilization';
  if (text === 'GUARANTEED_NO_EVICT' || text === '1') return 'guaranteed_no_evict';
  throw new Error('batch_scheduler_policy takes MAX_UTILIZATION or GUARANTEED_NO_EVICT');
}

function tokenizerFolderOf(path: string): string {
  if (basename(path) === 'tokenizer.json') return dirname(path);
  throw new Error('hf_tokenizer takes the path of a tokenizer.json');
}
