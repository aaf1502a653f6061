/** What the primary tells a front-end process, once. */
export interface FrontEndConfiguration {
  models: { name: string; aliases: string[]; tokenizerFolder: string; socketPaths: string[] }[];
  host: string;
  httpPort: number;
  apiKeys: string[];
  requestTimeoutSeconds: number;
  logLevel: string;
}

/** Primary → front end after that: stop taking requests and finish the running ones. */
export interface DrainMessage {
  kind: 'drain';
  timeoutMs: number;
}

/** Front end → primary. */
export type FrontEndMessage =
  /** It listens for its configuration now: sent any earlier, a message can be lost while modules load. */
  { kind: 'online' } | { kind: 'listening'; port: number } | { kind: 'failed'; message: string };
