import type { ModelRepository, RepositoryEngine } from '../../repository/model.ts';
import type { EngineStatistics } from '../../runtime/requests/statistics.ts';

/** One `nv_trt_llm_*` family: a gauge with one label beside model and version. */
export interface EngineMetric {
  name: string;
  help: string;
  labelNames: readonly string[];
  each(report: (labels: Record<string, string>, value: number) => void): void;
}

/** What one scrape reads of an engine. */
interface EngineReading {
  now: EngineStatistics;
  /** At the scrape before. */
  before: EngineStatistics | undefined;
  sequencesMax: number;
  positionsMax: number;
}

type Values = Readonly<Record<string, (reading: EngineReading) => number>>;

interface Row {
  name: string;
  help: string;
  label: string;
  values: Values;
  /** Of engines with in-flight batching, with static batching, or both. */
  mode?: 'inflight' | 'static';
}

/** Per step, between two scrapes. */
function perStep({ now, before }: EngineReading, of: 'promptTokens' | 'generatedTokens'): number {
  const steps = now.steps - (before?.steps ?? 0);
  return steps > 0 ? Math.round((now[of] - (before?.[of] ?? 0)) / steps) : 0;
}

/**
 * KV memory in tokens: our caches are not made of blocks of one size on every device, so a block is one token here, and `max` is what all
 * sequences could hold.
 */
function kvUsed({ now, positionsMax }: EngineReading): number {
  return now.kvBytesMax > 0 ? Math.round((now.kvBytesReserved / now.kvBytesMax) * positionsMax) : 0;
}

const contextTokens = (reading: EngineReading): number => perStep(reading, 'promptTokens');

/** The TensorRT-LLM backend's families and label values. */
const rows: readonly Row[] = [
  {
    name: 'nv_trt_llm_request_metrics',
    help: 'TRT LLM request metrics',
    label: 'request_type',
    values: {
      active: ({ now }) => now.runningSequences + now.waitingRequests,
      max: ({ sequencesMax }) => sequencesMax,
      scheduled: ({ now }) => now.runningSequences,
      context: ({ now }) => now.contextSequences,
      waiting: ({ now }) => now.waitingRequests,
    },
  },
  {
    name: 'nv_trt_llm_runtime_memory_metrics',
    help: 'TRT LLM runtime memory metrics',
    label: 'memory_type',
    values: { cpu: ({ now }) => now.kvBytesMax, gpu: () => 0, pinned: () => 0 },
  },
  {
    name: 'nv_trt_llm_kv_cache_block_metrics',
    help: 'TRT LLM KV cache block metrics',
    label: 'kv_cache_block_type',
    values: {
      max: ({ positionsMax }) => positionsMax,
      free: (reading) => reading.positionsMax - kvUsed(reading),
      used: kvUsed,
      tokens_per: () => 1,
      reused: ({ now }) => now.cachedPromptTokens,
      fraction: ({ now }) => (now.kvBytesMax > 0 ? now.kvBytesReserved / now.kvBytesMax : 0),
    },
  },
  {
    name: 'nv_trt_llm_inflight_batcher_metrics',
    help: 'TRT LLM inflight_batcher-specific metrics',
    label: 'inflight_batcher_specific_metric',
    mode: 'inflight',
    values: {
      total_context_tokens: contextTokens,
      generation_requests: ({ now }) => now.runningSequences - now.contextSequences,
      // One batch at a time, whatever its step.
      micro_batch_id: () => 0,
      paused_requests: ({ now }) => now.pausedSequences,
    },
  },
  {
    name: 'nv_trt_llm_v1_metrics',
    help: 'TRT LLM v1-specific metrics',
    label: 'v1_specific_metric',
    mode: 'static',
    values: {
      total_context_tokens: contextTokens,
      total_generation_tokens: (reading) => perStep(reading, 'generatedTokens'),
      empty_generation_slots: ({ now, sequencesMax }) => sequencesMax - now.runningSequences,
    },
  },
  {
    name: 'nv_trt_llm_general_metrics',
    help: 'General TRT LLM metrics',
    label: 'general_type',
    // Microseconds since the epoch, as the C++ backend has it.
    values: { timestamp: () => Date.now() * 1000, iteration_counter: ({ now }) => now.steps },
  },
];

/** The `nv_trt_llm_*` families over the engines behind a repository's models; all families of a scrape share one reading. */
export function engineMetrics(repository: ModelRepository): EngineMetric[] {
  const before = new Map<string, EngineStatistics>();
  let readings: { engine: RepositoryEngine; reading: EngineReading }[] = [];
  const read = (): void => {
    readings = repository
      .engines()
      .filter(({ client }) => client.ready)
      .map((engine) => {
        const key = `${engine.model}/${engine.version}`;
        const now = engine.client.statistics();
        const { sequencesMax, contextLength } = engine.client.description;
        const reading = {
          now,
          before: before.get(key),
          sequencesMax,
          positionsMax: sequencesMax * contextLength,
        };
        before.set(key, now);
        return { engine, reading };
      });
  };
  return rows.map(({ name, help, label, values, mode }, index) => ({
    name,
    help,
    labelNames: ['model', label, 'version'],
    each: (report) => {
      if (index === 0) read();
      for (const { engine, reading } of readings) {
        if (mode !== undefined && engine.isInflight !== (mode === 'inflight')) continue;
        for (const [kind, value] of Object.entries(values)) {
          report({ model: engine.model, [label]: kind, version: engine.version }, value(reading));
        }
      }
    },
  }));
}
