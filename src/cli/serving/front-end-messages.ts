import type { AnswerOptions } from './options.ts';

/** What the primary tells a front-end process, once. */
export interface FrontEndConfiguration {
  models: { name: string; aliases: string[]; tokenizerFolder: string; socketPaths: string[] }[];
  host: string;
  httpPort: number;
  apiKeys: string[];
  requestTimeoutSeconds: number;
  answers: AnswerOptions;
  logLevel: string;
}

/** Primary → front end after that. */
export type ControlMessage =
  /** Refuse new requests, still listening, until the running ones are done or the time is over. */
  | { kind: 'drain'; timeoutMs: number }
  /** Close and end: no front end has requests any more. */
  | { kind: 'close' };

/** Front end → primary. */
export type FrontEndMessage =
  /** It listens for its configuration now: sent any earlier, a message can be lost while modules load. */
  | { kind: 'online' }
  | { kind: 'listening'; port: number }
  | { kind: 'drained' }
  | { kind: 'failed'; message: string };
