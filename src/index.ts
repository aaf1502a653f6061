/** Nereid as a library. See docs/library.md. */
export { AssertionError, type ErrorKind, NereidError } from './base/errors.ts';
export { Engine, type EngineOptions, type GenerateOptions, type GenerationStream } from './engine.ts';
export type { EmbedOptions } from './generation/embed.ts';
export type { GenerationDelta, GenerationUsage } from './generation/generation.ts';
export type { EngineClient, RequestHandle } from './runtime/client.ts';
export type { Retention, RetentionLevel, RetentionRange } from './runtime/kv/retention.ts';
export type { OutputName, OutputRows, Outputs } from './runtime/outputs/output-rows.ts';
export type { FinishReason, SequenceEvent, TokenLogprobs } from './runtime/requests/events.ts';
export type {
  GenerationRequest,
  Pooling,
  RequestReturns,
  SamplingParameters,
} from './runtime/requests/request.ts';
export type { EngineDescription, EngineStatistics } from './runtime/requests/statistics.ts';
export type { ChatMessage } from './tokenizer/chat-template.ts';
