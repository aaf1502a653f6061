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
