import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { definite } from '../../base/errors.ts';
import { manifestFileName } from '../../builder/manifest.ts';
import type { BackendContext } from '../backend.ts';
import { instanceCount, parameterText, parameterTruth } from '../config/complete.ts';
import type { EngineSpecification } from '../engine-host.ts';
import { RepositoryError } from '../errors.ts';
import { refuseMissingParameters } from './features.ts';
import { lookaheadSettings } from './lookahead.ts';
import { loraSettings } from './lora-settings.ts';
import { positive } from './positive-parameter.ts';

/** Parameters of the original that choose among its own kernels and processes, and mean nothing here. */
const withoutEffect = [
  'executor_worker_path',
  'participant_ids',
  'num_nodes',
  'kv_cache_host_memory_bytes',
  'cross_kv_cache_fraction',
  'gpu_weights_percent',
  'enable_context_fmha_fp32_acc',
  'cuda_graph_mode',
  'sink_token_length',
  'lora_cache_gpu_memory_fraction',
  'max_attention_window_size',
];

/** What a configuration asks of the engines behind it. */
export interface EngineChoice {
  specification: EngineSpecification;
  /** False: static batching (V1). */
  isInflight: boolean;
}

/**
 * Reads the parameters of a `tensorrtllm` model.
 * @throws RepositoryError with the original's texts where it has them
 */
export async function engineSpecification(context: BackendContext): Promise<EngineChoice> {
  const { config, name, version, logger } = context;
  refuseMissingParameters(config);
  const type = parameterText(config, 'gpt_model_type')?.toLowerCase();
  const isInflight = type === 'inflight_batching' || type === 'inflight_fused_batching';
  if (!isInflight && type !== 'v1') {
    const message = 'Invalid gpt_model_type. Must be v1/inflight_batching/inflight_fused_batching.';
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  for (const key of withoutEffect) {
    if (parameterText(config, key) !== undefined) {
      logger.warn({ model: name, parameter: key }, 'this parameter has no effect here');
    }
  }
  const source = engineSource(context);
  const specification: EngineSpecification = {
    key: '',
    name,
    source,
    engines: engineCount(context),
    capacityPolicy: isInflight ? capacityPolicy(context) : 'static_batch',
    prefixReuse: parameterTruth(config, 'enable_kv_cache_reuse') ?? true,
    stepsInFlight: stepsInFlight(parameterTruth(config, 'enable_trt_overlap')),
    kvTokensMax: positive(context, 'max_tokens_in_paged_kv_cache', Number.MAX_SAFE_INTEGER),
    kvMemoryShare: positive(context, 'kv_cache_free_gpu_mem_fraction', 1),
    sequencesMax: config.max_batch_size > 0 ? config.max_batch_size : undefined,
    ...loraSettings(context),
    speculation: lookaheadSettings(config),
  };
  specification.key = `${name}/${version}: ${JSON.stringify(specification)}`;
  return { specification, isInflight };
}

/** Overlap launches a step before the last one's tokens are read; where nothing is said, the engine does as it likes. */
function stepsInFlight(isOverlapped: boolean | undefined): number | undefined {
  if (isOverlapped === undefined) return undefined;
  return isOverlapped ? 2 : 1;
}

function engineSource({ config, name, versionFolder }: BackendContext): string {
  const path = parameterText(config, 'gpt_model_path');
  if (path !== undefined) return path;
  // `cp -R engine/ repository/tensorrt_llm/1` is a place that users know.
  if (existsSync(join(versionFolder, manifestFileName))) return versionFolder;
  const places = `set the parameter gpt_model_path (engine_dir in templates), or copy an engine into ${versionFolder}`;
  throw new RepositoryError('INVALID_ARGUMENT', `${name} names no engine; ${places}`);
}

/** `gpu_device_ids` "0,1;2,3" are two instances; else the instance group's count. */
function engineCount({ config }: BackendContext): number {
  const devices = parameterText(config, 'gpu_device_ids');
  const groups = devices?.split(';').filter((group) => group.trim() !== '').length ?? 0;
  return groups > 1 ? groups : Math.max(1, instanceCount(config));
}

function capacityPolicy({ config, name, logger }: BackendContext): string {
  const known = ['guaranteed_no_evict', 'max_utilization'];
  const asked = parameterText(config, 'batch_scheduler_policy');
  if (asked !== undefined && !known.includes(asked)) {
    logger.warn({ model: name, asked, known }, 'unknown batch_scheduler_policy; guaranteed_no_evict is used');
  }
  return asked !== undefined && known.includes(asked) ? asked : definite(known[0], 'the default policy');
}
