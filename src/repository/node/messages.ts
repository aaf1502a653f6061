import type { ModelConfig } from '../config/types.ts';
import type { RepositoryStatus } from '../errors.ts';
import type { PackedParameters, PackedTensor } from './parcel.ts';

/** A request as it goes to a model's thread. */
export interface NodeRequest {
  /** Of this execution, unique in its instance. */
  number: number;
  id: string;
  inputs: PackedTensor[];
  /** Absent: all. */
  outputs?: string[];
  parameters?: PackedParameters;
}

/** An error that crosses threads. */
export interface NodeFailure {
  status: RepositoryStatus;
  message: string;
}

/** A response on its way out of, or into, a model's thread. */
export interface NodeResponse {
  outputs: PackedTensor[];
  parameters?: PackedParameters;
  error?: NodeFailure;
}

/** A model's thread starts with this. */
export interface NodeWorkerData {
  modelFile: string;
  modelName: string;
  version: string;
  config: ModelConfig;
  instance: number;
}

/** To a model's thread, in parcels. */
export type NodeCommand =
  /** To be executed when all batches before it are done. */
  | { kind: 'execute'; batch: number; requests: NodeRequest[] }
  | { kind: 'cancel'; number: number }
  /** A response to a call that the model made. */
  | { kind: 'called'; call: number; response?: NodeResponse; isFinal: boolean }
  | { kind: 'finalize' };

/** From a model's thread, in parcels. Times are its `performance.now()`. */
export type NodeEvent =
  | { kind: 'ready' }
  | { kind: 'failed'; message: string }
  | {
      kind: 'response';
      number: number;
      response?: NodeResponse;
      isFinal: boolean;
      /** When its batch began. */
      startedMs: number;
      atMs: number;
    }
  /** `execute` returned. */
  | { kind: 'executed'; batch: number; failure?: NodeFailure }
  | {
      kind: 'call';
      call: number;
      model: string;
      version: string;
      request: Omit<NodeRequest, 'number'>;
    }
  | { kind: 'cancel-call'; call: number }
  | { kind: 'finalized' };
