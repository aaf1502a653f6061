import { randomInt } from 'node:crypto';
import { type Clock, systemClock } from '../../base/clock.ts';
import { queuedRequestsMax } from '../../base/limits.ts';
import type { PhaseRecorder } from '../../trace/phases.ts';
import { threadTracer } from '../../trace/process-tracer.ts';
import type { AdapterCache } from '../adapters/adapter-cache.ts';
import { RuntimeError } from '../errors.ts';
import type { GuidanceOptions } from '../guidance/guidance.ts';
import type { VocabularySource } from '../guidance/vocabulary.ts';
import { memoryStore } from '../outputs/memory-segment.ts';
import { type OutputStore, outputBytesMaxDefault } from '../outputs/output-store.ts';
import { type CapacityPolicy, capacityPolicy } from '../plan/capacity.ts';
import { sharedPrefixPositionsMin } from '../plan/shared-prefixes.ts';
import type { SpeculationOptions } from '../speculation/speculation.ts';

/** Seeds that the engine picks are below it; node:crypto draws no more bits at once. */
const seedMax = 2 ** 48 - 1;

const inFlightStepsDefault = 2;

/** A step's rows together wait so long for masks that are late. */
const lateMaskWaitMs = 2;

/** How an engine's guides are followed. */
export interface GuidanceSettings extends Pick<GuidanceOptions, 'start'> {
  /** Default {@link lateMaskWaitMs}. */
  lateMaskWaitMs?: number;
}

/** Limits and settings of an engine. Sizes are checked; see {@link resolveOptions}. */
export interface EngineCoreOptions {
  name: string;
  /** The device's registry name, for the description. */
  device: string;
  vocabularySize: number;
  /** Positions of one sequence. */
  contextLength: number;
  /** Token budget of one step; at least the sequences that may run at once. */
  batchTokensMax: number;
  kvBytesMax: number;
  /** Sequences in flight at most; no more than the device has slots. */
  sequencesMax: number;
  /**
   * Steps that may be launched before the first of them is collected, as far as the device can: 2 hides the host's time behind the
   * device's, 1 is the plain loop. Default 2.
   */
  inFlightStepsMax?: number;
  /** Requests that may wait. */
  queuedRequestsMax?: number;
  /** By TensorRT-LLM's name: `guaranteed_no_evict` (default), `max_utilization`, `static_batch`. */
  capacityPolicy?: string;
  /** Whether prompts reuse the KV of others with the same prefix. Default true. */
  prefixReuse?: boolean;
  /** KV bytes that finished prompts may keep for reuse while nobody else needs them. Default `kvBytesMax`. */
  prefixCacheBytesMax?: number;
  /** The model's vocabulary, for guided requests; absent: they are refused. */
  vocabulary?: VocabularySource;
  /** How guides are followed; the simulator's own. Default: in worker threads, by xgrammar. */
  guidance?: GuidanceSettings;
  /** How tokens are guessed ahead. Default: only as requests ask. */
  speculation?: SpeculationOptions;
  /** Prefixes of so many positions that several waiting requests have are computed once. Default 128. */
  sharedPrefixPositionsMin?: number;
  clock?: Clock;
  /** Hears which phase a step or a request is in. Default: this thread's tracer. */
  phases?: PhaseRecorder;
  /** A seed for a request that brings none: a safe integer ≥ 0. */
  randomSeed?: () => number;
  /** Where rows that requests ask for are kept. Default: {@link outputBytesMaxDefault} bytes of this process's memory. */
  outputs?: OutputStore;
  /** The engine's LoRA adapters; absent where it serves none. */
  adapters?: AdapterCache;
  /** Something became runnable outside of {@link EngineCore.step}: a prerequisite is there. */
  onRunnable?: () => void;
  /** The device is lost and every request failed; without it `step()` throws what happened. */
  onFatal?: (error: unknown) => void;
}

/** Options with every default filled in. */
export type ResolvedOptions = Required<
  Omit<
    EngineCoreOptions,
    'adapters' | 'capacityPolicy' | 'guidance' | 'onFatal' | 'onRunnable' | 'vocabulary'
  >
> & {
  adapters: AdapterCache | undefined;
  capacityPolicy: CapacityPolicy;
  guidance: GuidanceSettings & { lateMaskWaitMs: number };
  onRunnable: (() => void) | undefined;
  onFatal: ((error: unknown) => void) | undefined;
  vocabulary: VocabularySource | undefined;
};

/** @throws RuntimeError `OPTIONS_INVALID`; UnknownNameError for a capacity policy */
export function resolveOptions(options: EngineCoreOptions): ResolvedOptions {
  const resolved: ResolvedOptions = {
    ...options,
    inFlightStepsMax: options.inFlightStepsMax ?? inFlightStepsDefault,
    adapters: options.adapters,
    onRunnable: options.onRunnable,
    vocabulary: options.vocabulary,
    queuedRequestsMax: options.queuedRequestsMax ?? queuedRequestsMax,
    capacityPolicy: capacityPolicy(options.capacityPolicy ?? 'guaranteed_no_evict'),
    prefixReuse: options.prefixReuse ?? true,
    prefixCacheBytesMax: Math.min(options.prefixCacheBytesMax ?? options.kvBytesMax, options.kvBytesMax),
    sharedPrefixPositionsMin: options.sharedPrefixPositionsMin ?? sharedPrefixPositionsMin,
    clock: options.clock ?? systemClock,
    phases: options.phases ?? threadTracer,
    randomSeed: options.randomSeed ?? (() => randomInt(seedMax)),
    guidance: { lateMaskWaitMs, ...options.guidance },
    speculation: options.speculation ?? {},
    outputs: options.outputs ?? memoryStore(outputBytesMaxDefault),
    onFatal: options.onFatal,
  };
  atLeast('contextLength', resolved.contextLength, 2);
  atLeast('vocabularySize', resolved.vocabularySize, 1);
  atLeast('sequencesMax', resolved.sequencesMax, 1);
  atLeast('inFlightStepsMax', resolved.inFlightStepsMax, 1);
  atLeast('queuedRequestsMax', resolved.queuedRequestsMax, 1);
  atLeast('kvBytesMax', resolved.kvBytesMax, 1);
  atLeast('prefixCacheBytesMax', resolved.prefixCacheBytesMax, 0);
  atLeast('sharedPrefixPositionsMin', resolved.sharedPrefixPositionsMin, 1);
  atLeast('batchTokensMax', resolved.batchTokensMax, resolved.sequencesMax);
  return resolved;
}

function atLeast(name: string, value: number, min: number): void {
  if (Number.isSafeInteger(value) && value >= min) return;
  throw new RuntimeError('OPTIONS_INVALID', `${name} is ${value}; it must be an integer of at least ${min}`);
}
