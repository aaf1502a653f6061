import type { AdapterSettings, AdapterSource } from '../runtime/adapters/adapter.ts';
import type { EngineClient } from '../runtime/client.ts';
import type { LookupSettings } from '../runtime/speculation/settings.ts';

/** The engines that one model asks for. */
export interface EngineSpecification {
  /** The same key gets the same engines: model, version and a hash of what follows. */
  key: string;
  /** The model's name in logs. */
  name: string;
  /** Engine folder, Hugging Face folder, GGUF file or catalogue name. */
  source: string;
  /** Engines behind the one name. */
  engines: number;
  /** TensorRT-LLM's names, plus `static_batch`. */
  capacityPolicy: string;
  prefixReuse: boolean;
  /** Steps that may be in flight; absent: the host's default. */
  stepsInFlight?: number;
  /** Tokens that the KV cache holds at most; absent: what the machine can spare. */
  kvTokensMax?: number;
  /** Share of the memory that a KV cache may take; absent: the host's default. */
  kvMemoryShare?: number;
  /** Sequences in flight at most, per engine; absent: the host's default. */
  sequencesMax?: number;
  /** How tokens are guessed ahead; absent: as the host does. */
  speculation?: LookupSettings;
  /** What differs from the host's own way to keep LoRA adapters. */
  adapters?: Partial<AdapterSettings>;
  /** LoRA adapters to begin with, beside the host's. */
  adaptersAtStart?: readonly AdapterSource[];
}

/** Running engines on loan. */
export interface EngineLease {
  client: EngineClient;
  /** The tokenizer that belongs to the engine. */
  tokenizerFolder: string;
  /** Gives them back; the last to do so ends the processes and frees their memory. */
  release(): Promise<void>;
}

/** Starts engines for models, wherever their processes are kept. */
export interface EngineHost {
  /** @throws NereidError when an engine cannot be built or started */
  acquire(specification: EngineSpecification): Promise<EngineLease>;
}
