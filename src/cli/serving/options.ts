import { availableParallelism } from 'node:os';
import type { KvDtype } from '../../device/device.ts';
import type { Restriction } from '../../protocol/triton/context.ts';
import type { ModelControlMode } from '../../repository/model.ts';
import type { AdapterSettings, AdapterSource } from '../../runtime/adapters/adapter.ts';
import type { Pooling } from '../../runtime/requests/request.ts';
import type { RoutingName } from '../../runtime/routing/router.ts';
import type { NgramLengths } from '../../runtime/speculation/ngram-lengths.ts';
import type { speculationMethods } from '../../runtime/speculation/settings.ts';
import type { LogFormat } from './log.ts';
import type { SecurityOptions } from './security.ts';

/** How chats are made and answers read. */
export interface AnswerOptions {
  /** A name of `toolFormats`; undefined: what the chat template shows; `none`: calls stay text. */
  toolCallParser?: string;
  /** A name of `reasoningFormats`; undefined: what the chat template shows; `none`: reasoning stays text. */
  reasoningParser?: string;
  /** How embeddings are made where a request does not say. Undefined: of the last token. */
  pooling?: Pooling;
  /** Whether requests may bring a chat template. */
  trustRequestChatTemplate: boolean;
  /** Whether LoRA adapters may be loaded and unloaded over HTTP. */
  allowLoraUpdates?: boolean;
}

/** How requests are spread over a model's engines, and how often a stream gets what they say. */
export interface TrafficOptions {
  routing: RoutingName;
  /** Steps that one event of a stream tells of. */
  streamInterval: number;
}

/** How tokens are guessed ahead. */
export interface SpeculationChoice {
  method: (typeof speculationMethods)[number];
  /** With `draft-model`: an engine, file, folder or name, as models are given. */
  draftModel?: string | undefined;
  /** With `draft-head`: its folder. */
  draftHead?: string | undefined;
  /** Drafts of a sequence in a step at most. */
  draftsMax?: number | undefined;
  /** With `ngram`: lengths of what is looked up. */
  lengths?: NgramLengths | undefined;
}

/** Everything `nereid serve` was told, checked. */
export interface ServeOptions {
  models: string[];
  host: string;
  httpPort: number;
  kserve: KserveOptions;
  /** Undefined: no gRPC port. */
  grpcPort?: number;
  /** Undefined: no Briton port. */
  britonPort?: number;
  /** Folder of JSON schemas that Briton's requests name by their hashes. */
  britonSchemas?: string;
  /** Undefined: `/metrics` on the HTTP port only. */
  metricsPort?: number;
  servedModelName?: string;
  /** Undefined: what each engine was built for. */
  device?: string;
  deviceOptions: Record<string, string>;
  threads?: number;
  maxSequences: number;
  maxBatchTokens: number;
  /** Undefined: what the machine can spare. */
  kvCacheBytes?: number;
  /** Tokens that the KV cache holds at most; a model repository says it. */
  kvTokensMax?: number;
  /** Share of free memory that the KV cache may take; a model repository says it. */
  kvMemoryShare?: number;
  /** A folder with tokenizer.json, instead of the engine's own. */
  tokenizerFolder?: string;
  /** Undefined: the device's own choice. */
  kvBlockSize?: number;
  /** Undefined: no host tier. */
  kvHostCacheBytes?: number;
  /** For logits and hidden states that requests ask for. Undefined: the engine's own default. */
  outputBytesMax?: number;
  stepsInFlight: number;
  kvDtype?: KvDtype;
  /** Undefined: tokens are guessed only as requests ask. */
  speculation?: SpeculationChoice;
  contextLength?: number;
  prefixReuse: boolean;
  capacityPolicy: string;
  requestTimeoutSeconds: number;
  answers: AnswerOptions;
  traffic: TrafficOptions;
  /** LoRA adapters to begin with, and how engines keep them. */
  adapters: { atStart: AdapterSource[]; settings: AdapterSettings };
  engines: number;
  /** Undefined: as an engine that is given is divided, else 1. */
  tensorParallel?: number;
  pipelineParallel?: number;
  /** Ranks on several hosts, this host's rank, and where rank 0 listens; undefined: all ranks lie on this host. */
  worldSize?: number;
  rank?: number;
  leader?: string;
  frontEnds: number;
  security: SecurityOptions;
  drainSeconds: number;
  stepTimeoutSeconds: number;
  restartsInARow: number;
  logLevel: string;
  /** Undefined: for people on a terminal, JSON elsewhere. */
  logFormat?: LogFormat;
  selfTest?: string;
  repository?: RepositoryServeOptions;
}

/** What is said of KServe's protocol; plain data, for front-end processes. */
export interface KserveOptions {
  /** Bytes of one request over HTTP. */
  httpInputBytesMax: number;
  /** The server's name in the metadata. */
  serverId: string;
  /** APIs that ask for a header, over HTTP and over gRPC. */
  httpRestrictions: Restriction[];
  grpcRestrictions: Restriction[];
}

/** What `--model-repository` and its companions say. */
export interface RepositoryServeOptions {
  folders: string[];
  controlMode: ModelControlMode;
  loadModels: string[];
  pollSeconds: number;
  strictReadiness: boolean;
  /** Whether a model that fails to load ends the server. */
  exitOnError: boolean;
  autoComplete: boolean;
}

/** CPU threads for each of several engines that share the machine: the supervisor's grant. */
export function threadsPerEngine(asked: number | undefined, engines: number): number {
  return asked ?? Math.max(1, Math.floor(availableParallelism() / engines));
}
