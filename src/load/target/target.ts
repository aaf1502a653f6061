/** One message of a chat. */
export interface ChatMessage {
  role: 'user' | 'assistant';
  content: string;
}

/** What a target is to send. Text or tokens, as the target's `sendsTokens` said; `messages` is the conversation so far, its last one the text. */
export interface TargetRequest {
  text: string;
  tokens?: Int32Array;
  messages: readonly ChatMessage[];
  /** Instead of the target's own. */
  model?: string;
  outputTokensMax: number;
}

/** What a server says about an answer at its end, as far as it says it. */
export interface AnswerEnd {
  inputTokens?: number;
  outputTokens?: number;
  cachedTokens?: number;
  finishReason?: string;
}

/** Hears of one answer, in order; nothing after `end` or `fail`. Times are {@link monotonicMs} of when the bytes were read. */
export interface AnswerListener {
  /** One streamed output. `tokens`: how many it carries, where the protocol says. */
  output(atMs: number, text: string, tokens?: number): void;
  end(atMs: number, end: AnswerEnd): void;
  fail(atMs: number, reason: string): void;
}

/** A server under load, spoken to in one protocol. */
export interface Target {
  /** Sends a request now; the returned function cancels it (the listener then hears no more). */
  send(request: TargetRequest, listener: AnswerListener): () => void;
  close(): void;
}

/** How requests are to be answered, the same for every target. A target that cannot say something over its protocol refuses it. */
export interface SamplingSpec {
  temperature?: number;
  topP?: number;
  topK?: number;
  ignoreEos: boolean;
  /** Passed to the server; not the load's own seed. */
  seed?: number;
}

/** A target as plain data: what a worker process needs to open it. */
export interface TargetSpec {
  /** A row of the target registry. */
  kind: string;
  /** `http://host:port`, or `host:port` for gRPC. */
  url: string;
  /** Path of the endpoint, instead of the protocol's usual one. HTTP only. */
  path?: string;
  /** Model to name; '' where the protocol needs none. */
  model: string;
  headers: Readonly<Record<string, string>>;
  streams: boolean;
  sampling: SamplingSpec;
  /** Further fields of the request body. JSON protocols only. */
  extraBody: Readonly<Record<string, unknown>>;
  /** Connections to spread streams over. gRPC only; over HTTP/1.1 a stream has a connection of its own. */
  channels: number;
  /** A folder with tokenizer.json: the client turns ids into text by itself, as Briton's Python clients do. Briton only. */
  detokenizerFolder?: string;
  /** A request without an end after so long has failed. 0: never. */
  timeoutMs: number;
}
