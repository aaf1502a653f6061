import type { KeyChange } from '../../protocol/authentication.ts';
import type { Exposition } from '../../protocol/metrics.ts';
import type { StoredResponse } from '../../protocol/responses/store.ts';
import type { LogFormat } from './log.ts';
import type { AnswerOptions, KserveOptions, TrafficOptions } from './options.ts';
import type { SecurityOptions } from './security.ts';

/** What a front-end process is to be. */
export interface FrontEndConfiguration {
  models: {
    name: string;
    aliases: string[];
    contentHash: string;
    tokenizerFolder: string;
    socketPaths: string[];
  }[];
  host: string;
  httpPort: number;
  grpcPort?: number;
  britonPort?: number;
  britonSchemas?: string;
  kserve: KserveOptions;
  security: SecurityOptions;
  requestTimeoutSeconds: number;
  answers: AnswerOptions;
  traffic: TrafficOptions;
  logLevel: string;
  logFormat: LogFormat;
}

/** Primary → front end. Other libraries' messages (`node:cluster`'s, prom-client's) come over the same channel: only these kinds count. */
export type ControlMessage =
  /** Once, first. */
  | { kind: 'configure'; configuration: FrontEndConfiguration }
  /** Read keys and certificates again. */
  | { kind: 'reload' }
  /** Answered with `alive`. */
  | { kind: 'ping' }
  /** Answered with `metrics` of the same number. */
  | { kind: 'metrics'; number: number }
  /** Answers the same: the metrics of all front ends. */
  | { kind: 'metrics-of-all'; exposition: Exposition }
  /** What other front ends used of the keys. */
  | { kind: 'key-use'; changes: KeyChange[] }
  /** Answers `response-get` and `response-delete` of the same number; without `stored` there was none. */
  | { kind: 'response'; number: number; stored?: StoredResponse }
  /** Refuse new requests, still listening, until the running ones are done or the time is over. */
  | { kind: 'drain'; timeoutMs: number }
  /** Close and end: no front end has requests any more. */
  | { kind: 'close' };

/** Front end → primary. */
export type FrontEndMessage =
  /** It listens for its configuration now: sent any earlier, a message can be lost while modules load. */
  | { kind: 'online' }
  | { kind: 'listening'; port: number; grpcPort?: number; britonPort?: number }
  | { kind: 'alive' }
  | { kind: 'metrics'; number: number; metrics: object[] }
  /** Asks for those of all front ends. */
  | { kind: 'metrics-of-all' }
  | { kind: 'drained' }
  /** What this front end used of the keys since it last said so. */
  | { kind: 'key-use'; changes: KeyChange[] }
  /** Of the Responses API, whose store all front ends share. */
  | { kind: 'response-put'; stored: StoredResponse }
  | { kind: 'response-get' | 'response-delete'; number: number; id: string; owner: string }
  | { kind: 'failed'; message: string };
