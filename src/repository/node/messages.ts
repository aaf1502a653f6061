import type { ModelConfig } from '../config/types.ts';
import type { RepositoryStatus } from '../errors.ts';
import type { Parameters } from '../model.ts';
import type { Tensor } from '../tensor.ts';

/** A request as it goes to a model's thread; tensors' bytes are copies. */
export interface NodeRequest {
  /** Of this execution, unique in its instance. */
  number: number;
  id: string;
  inputs: Tensor[];
  /** Absent: all. */
  outputs?: string[];
  parameters: Parameters;
}

/** An error that crosses threads. */
export interface NodeFailure {
  status: RepositoryStatus;
  message: string;
}

/** A response on its way out of, or into, a model's thread. */
export interface NodeResponse {
  outputs: Tensor[];
  parameters?: Parameters;
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

/** To a model's thread. */
export type NodeCommand =
  | { kind: 'execute'; batch: number; requests: NodeRequest[] }
  | { kind: 'cancel'; number: number }
  /** A response to a call that the model made. */
  | { kind: 'called'; call: number; response: NodeResponse | undefined; isFinal: boolean }
  | { kind: 'finalize' };

/** From a model's thread. */
export type NodeEvent =
  | { kind: 'ready' }
  | { kind: 'failed'; message: string }
  | { kind: 'response'; number: number; response: NodeResponse | undefined; isFinal: boolean }
  /** `execute` returned: the instance may take another batch. */
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

/**
 * Tensors with bytes of their own, to be moved to another thread: a message would copy the whole buffer that a view lies in.
 * @param transfer gets the buffers
 */
export function packed(tensors: readonly Tensor[], transfer: ArrayBuffer[]): Tensor[] {
  return tensors.map(({ name, datatype, shape, data }) => {
    const own = new Uint8Array(data);
    transfer.push(own.buffer);
    return { name, datatype, shape: [...shape], data: own };
  });
}
