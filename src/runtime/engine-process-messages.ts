import type { ErrorKind } from '../base/errors.ts';

/** The supervisor's first (and only) IPC message to an engine process. */
export interface EngineProcessConfiguration {
  /** The model's name in logs and metrics. */
  name: string;
  socketPath: string;
  /** A registry name of `device/registry.ts`. */
  device: string;
  deviceOptions: Record<string, string>;
  /** The engine to load; absent on the null device, which needs only `nullModel`. */
  engineFolder?: string;
  nullModel: { vocabularySize: number; contextLength: number };
  threads: number;
  /** Sequences in flight at most. */
  slots: number;
  /** Token budget of one step. */
  batchTokensMax: number;
  kvDtype: 'f16' | 'f32';
  /** Absent: {@link defaultKvBytes}. */
  kvBytesMax?: number;
  /** Positions a sequence, if less than the engine's own. */
  contextLength?: number;
  prefixReuse: boolean;
}

/** What an engine process tells its supervisor. */
export type EngineProcessMessage =
  | { kind: 'ready' }
  /** Sent about once a second while stepping and when falling idle; a busy engine that stops sending is stuck. */
  | { kind: 'heartbeat'; busy: boolean }
  | { kind: 'failed'; code: string; errorKind: ErrorKind; message: string };
