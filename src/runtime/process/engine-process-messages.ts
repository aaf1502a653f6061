import type { ErrorKind } from '../../base/errors.ts';
import type { Parallelism } from '../../models/partition.ts';
import type { AdapterSource } from '../adapters/adapter.ts';
import type { RankSeat } from '../ranks/seat.ts';
import type { EngineSizes } from './load-model.ts';

/** What the supervisor tells an engine process: once how to start, then now and then to show that it lives. */
export type SupervisorMessage =
  | { kind: 'configure'; configuration: EngineProcessConfiguration }
  /** Answered with a heartbeat. */
  | { kind: 'ping' };

/** What an engine process is to be. */
export interface EngineProcessConfiguration extends EngineSizes {
  /** The model's name in logs and metrics. */
  name: string;
  socketPath: string;
  /** The engine to load; absent on the null device, which needs only `nullModel`. */
  engineFolder?: string;
  /** The model's tokenizer, for guided requests. */
  tokenizerFolder?: string;
  /** Adapters that it loads before it is ready. */
  adaptersAtStart?: readonly AdapterSource[];
  nullModel: { vocabularySize: number; contextLength: number };
  /** The engine is divided among ranks on this host: the process only starts and watches theirs. */
  group?: Parallelism | undefined;
  /** The process is one rank of a group. */
  seat?: RankSeat;
}

/** What an engine process tells its supervisor. */
export type EngineProcessMessage =
  | { kind: 'ready' }
  /** Sent about once a second while stepping, when falling idle, and in answer to a ping; an engine that stops sending is stuck. */
  | { kind: 'heartbeat'; busy: boolean }
  | { kind: 'failed'; code: string; errorKind: ErrorKind; message: string };
