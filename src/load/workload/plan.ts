/** One request of a plan. */
export interface PlannedTurn {
  /** Text, where the load sends text. */
  text?: string;
  /** Token ids, where it sends ids. */
  tokens?: Int32Array;
  /** Tokens of the prompt, as well as the plan knows them; a server's own count replaces it in the record. */
  inputTokens: number;
  /** The answer's length to ask for. */
  outputTokensMax: number;
  /** Cancel the request when so many outputs arrived. */
  cancelAfterOutputs?: number;
}

/** A conversation: each turn is sent when the one before it has been answered, with all of the conversation so far. Most have one turn. */
export interface PlannedSession {
  index: number;
  turns: readonly PlannedTurn[];
  /** The model or adapter to name. */
  model?: string;
}

/**
 * What is sent, as a function of the session's index (and the seed it was opened with), so that any worker can make its own share and a
 * plan has no end.
 */
export interface Workload {
  /** For reports. */
  readonly description: string;
  /** Sessions before the plan repeats itself; undefined for one that never does. */
  readonly distinctSessions?: number;
  session(index: number): PlannedSession;
}
