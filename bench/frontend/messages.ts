/** What the benchmark's processes say to each other over Node's IPC. */

/** To the server process, once. */
export interface ServerSetup {
  kind: 'nereid' | 'bare';
  tokenizerFolder: string;
  vocabularySize: number;
  contextLength: number;
  streams: number;
  /** Of the null device. */
  stepMs: number;
  /** Steps an event; 1 if left out. */
  streamInterval?: number;
}

export interface ServerReady {
  port: number;
}

/** To the server process, any time later: what its processes used so far. */
export interface CpuQuestion {
  kind: 'cpu';
}

/** Seconds of CPU time. */
export interface CpuAnswer {
  frontEnd: number;
  engine: number;
}

/** To the client process, for each run. */
export interface ClientRun {
  port: number;
  streams: number;
  tokens: number;
  /** What is done with the bytes: events counted (default), nothing, or each event parsed as a client of the API does. */
  reading?: 'count' | 'discard' | 'parse';
}

export interface ClientResult {
  /** From the first request's first byte to the last stream's end. */
  seconds: number;
  /** Server-sent events with a token in them. */
  events: number;
  /** Reads of the socket: how far the server gathered events into writes. */
  reads: number;
  bytes: number;
  cpuSeconds: number;
}
