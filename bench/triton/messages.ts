/** What the stream benchmark's processes say to each other over Node's IPC. */

/** To the client process, for each run. */
export interface StreamRun {
  port: number;
  streams: number;
  /** Messages that each stream brings. */
  tokens: number;
}

/** The client's answer. */
export interface StreamResult {
  /** From the first request to the last stream's end. */
  seconds: number;
  messages: number;
}

/** What `bench:triton`'s client does: unary over HTTP and gRPC, unary models over streams that stay open, decoupled streams. */
export type InferWork = 'http' | 'grpc' | 'stream' | 'decoupled';

/** To `bench:triton`'s client process, for each run. */
export interface InferRun {
  work: InferWork;
  /** Of the work's protocol. */
  port: number;
  /** Requests altogether. */
  count: number;
  /** Requests at a time. */
  concurrency: number;
}

/** The client's answer. */
export interface InferResult {
  /** From the first request to the last answer. */
  seconds: number;
  answers: number;
}
