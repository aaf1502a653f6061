import { cp, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packageRoot } from '../base/entry.ts';
import { RepositoryError } from './errors.ts';
import { fillTemplate } from './template.ts';

/** The groups of models that come with Nereid. */
export const modelGroups = ['inflight_batcher_llm', 'gpt', 'llmapi'] as const;
export type ModelGroup = (typeof modelGroups)[number];

/** What a ready repository is made of. */
export interface CreateOptions {
  /** Must not exist, or be empty. */
  target: string;
  group: ModelGroup;
  /** Fills `engine_dir`: an engine folder, or anything that an engine is made from. */
  engine: string;
  /** Fills `tokenizer_dir`. */
  tokenizer: string;
  /** Over the defaults, by placeholder. */
  values?: Readonly<Record<string, string>>;
}

const defaults: Readonly<Record<string, string>> = {
  triton_backend: 'tensorrtllm',
  triton_max_batch_size: '64',
  decoupled_mode: 'true',
  batching_strategy: 'inflight_fused_batching',
  max_queue_size: '0',
  max_queue_delay_microseconds: '0',
  preprocessing_instance_count: '1',
  postprocessing_instance_count: '1',
  bls_instance_count: '1',
  logits_datatype: 'TYPE_FP32',
  encoder_input_features_data_type: 'TYPE_FP16',
  exclude_input_in_output: 'true',
  enable_kv_cache_reuse: 'true',
  accumulate_tokens: 'false',
};

/**
 * Writes a repository from the templates of `all_models/`, filled and ready to be served.
 * @returns the names of its models
 * @throws RepositoryError ALREADY_EXISTS, INVALID_ARGUMENT for a value that no template has
 */
export async function createRepository(options: CreateOptions): Promise<string[]> {
  const { target, group, engine, tokenizer, values = {} } = options;
  const existing = await readdir(target).catch(() => []);
  if (existing.length > 0) {
    throw new RepositoryError(
      'ALREADY_EXISTS',
      `${target} is not empty; name a folder that does not exist yet`,
    );
  }
  const source = join(packageRoot, 'all_models', group);
  await mkdir(target, { recursive: true });
  await cp(source, target, { recursive: true });
  const all = { ...defaults, engine_dir: engine, tokenizer_dir: tokenizer, ...values };
  const used = new Set<string>();
  const models = (await readdir(target)).sort();
  for (const path of models.flatMap((model) => [`${model}/config.pbtxt`, `${model}/1/model.yaml`])) {
    const file = join(target, path);
    if (!(await stat(file).catch(() => undefined))) continue;
    const text = await readFile(file, 'utf8');
    const known = Object.entries(all).filter(([key]) => text.includes(`\${${key}}`));
    for (const [key] of known) used.add(key);
    const quoted = known.map(([key, value]) => [key, value.replace(/(["\\])/g, '\\$1')] as const);
    await writeFile(file, fillTemplate(text, new Map(quoted), path).text);
  }
  const unknown = Object.keys(values).find((key) => !used.has(key));
  if (unknown !== undefined) {
    throw new RepositoryError('INVALID_ARGUMENT', `no model of ${group} has a placeholder \${${unknown}}`);
  }
  return models;
}
