import type { AdapterTensors } from '../../device/adapters.ts';

/** Where an adapter's files lie: a PEFT folder, a `.gguf`, or a folder with the `.npy` files of TensorRT-LLM's converter. */
export interface AdapterSource {
  name: string;
  path: string;
  /**
   * Nobody but the engine knows the files: it forgets the adapter when it evicts it, and a client sends it again. Others are read again from
   * their path.
   */
  isTransient?: boolean;
}

/** An adapter that an engine has: plain data, structured-clone safe. */
export interface AdapterDescription extends AdapterSource {
  digest: string;
  rank: number;
  /** Linears that it changes. */
  linears: number;
  byteLength: number;
}

/** Reads an adapter's files and checks them against the model. Does not block the event loop for long. */
export type AdapterLoader = (path: string) => Promise<AdapterTensors>;

/** What a front end can do with an engine's adapters. */
export interface AdapterDirectory {
  /** Those that requests may name now. */
  list(): readonly AdapterDescription[];
  /**
   * Loads an adapter; one of that name is replaced (requests that run with it finish with it).
   * @throws RuntimeError `ADAPTER_*`, `ADAPTERS_UNSUPPORTED`; CheckpointError `LORA_*`
   */
  load(source: AdapterSource): Promise<AdapterDescription>;
  /** Requests that run with it finish. @throws RuntimeError `ADAPTER_NOT_FOUND` */
  unload(name: string): Promise<void>;
}

/** How an engine keeps adapters. */
export interface AdapterSettings {
  /** Adapters in one batch. */
  slots: number;
  rankMax: number;
  /** Device memory for adapters; absent: as {@link slots} adapters of rank {@link rankUsual} over all linears take. */
  deviceBytesMax?: number;
  /** The rank that the device's room is sized for; absent: {@link rankUsual}. */
  rankUsual?: number;
  /** Host memory for adapters that were read. */
  hostBytesMax: number;
}

/** The rank that the device's room is sized for unless told otherwise. */
export const rankUsual = 16;

/** Defaults: 8 adapters in a batch, of ranks up to 64 (TensorRT-LLM's), and 1 GiB of host memory (likewise). */
export const adapterSettingsDefault: AdapterSettings = {
  slots: 8,
  rankMax: 64,
  hostBytesMax: 1024 ** 3,
};

/** Adapters that an engine knows by name at most; each costs a model's card. */
export const adaptersMax = 4096;
