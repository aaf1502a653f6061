import type { ErrorKind } from '../../base/errors.ts';
import type { EngineSizes } from './load-model.ts';

/** The supervisor's first (and only) IPC message to an engine process. */
export interface EngineProcessConfiguration extends EngineSizes {
  /** The model's name in logs and metrics. */
  name: string;
  socketPath: string;
  /** The engine to load; absent on the null device, which needs only `nullModel`. */
  engineFolder?: string;
  nullModel: { vocabularySize: number; contextLength: number };
}

/** What an engine process tells its supervisor. */
export type EngineProcessMessage =
  | { kind: 'ready' }
  /** Sent about once a second while stepping and when falling idle; a busy engine that stops sending is stuck. */
  | { kind: 'heartbeat'; busy: boolean }
  | { kind: 'failed'; code: string; errorKind: ErrorKind; message: string };
