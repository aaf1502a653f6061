import type { AdapterDescription, AdapterSource } from '../adapters/adapter.ts';
import type { KvChanges } from '../kv/kv-cache.ts';
import type { SequenceEvent } from '../requests/events.ts';
import type { GenerationRequest } from '../requests/request.ts';
import type { EngineDescription, EngineStatistics } from '../requests/statistics.ts';

/** Front end → engine: everything of one turn of the front end's loop, in one frame. */
export interface CommandMessage {
  submits: GenerationRequest[];
  cancels: { id: number; sequence?: number }[];
  /** From now on the engine tells which prompts its KV cache knows ({@link PrefixesMessage}), at first all of them. */
  watchPrefixes?: boolean;
  /** The KV memory that is kept for reuse is given back. */
  releaseRetained?: boolean;
  adapters?: AdapterCommand[];
  /** Ids of ended requests whose logits and hidden states were read: their room is free again. */
  outputsRead?: number[];
}

/** A front end's wish about adapters, answered by an {@link AdaptersMessage} with the same number. */
export interface AdapterCommand {
  number: number;
  load?: AdapterSource;
  unload?: string;
}

/** Engine → front ends: the adapters that it has now, and what became of a command of this one's. */
export interface AdaptersMessage {
  kind: 'adapters';
  list: AdapterDescription[];
  reply?: { number: number; error?: ErrorText };
}

/** An error as it crosses. */
export interface ErrorText {
  code: string;
  kind: string;
  message: string;
}

/** Engine → front end, once, when a front end connects. */
export interface HelloMessage {
  kind: 'hello';
  /** Ids of this connection's requests go up from here (`request-ids.ts`). */
  firstRequestId: number;
  description: EngineDescription;
  statistics: EngineStatistics;
  /** Absent where the engine serves none. */
  adapters?: AdapterDescription[];
}

/** Engine → front end: all sequences' events of one step, as columns (most events are one token and nothing else). */
export interface StepMessage {
  kind: 'step';
  requestIds: Float64Array;
  sequences: Uint16Array;
  /** Tokens of event i are the next `tokenCounts[i]` of `tokens`. */
  tokenCounts: Uint16Array;
  tokens: Int32Array;
  /** The rare rest, by event index. */
  extras: [index: number, extra: EventExtra][];
  statistics?: EngineStatistics;
}

type EventExtra = Omit<SequenceEvent, 'requestId' | 'sequence' | 'tokens'>;

/** Engine → a front end that asked for it: what became and ceased to be known to the KV cache, as hashes of prefixes (`kv/prefix-hash.ts`). */
export interface PrefixesMessage {
  kind: 'prefixes';
  /** Nothing said before holds any more. */
  isSnapshot: boolean;
  stored: Float64Array;
  removed: Float64Array;
}

/** Hashes in one {@link PrefixesMessage} at most; more go in several. */
export const prefixesPerMessageMax = 65_536;

export type EngineMessage = HelloMessage | StepMessage | PrefixesMessage | AdaptersMessage;

/** The messages that tell of changes, removals first, each of a bounded size. */
export function packPrefixes({ stored, removed }: KvChanges, isSnapshot = false): PrefixesMessage[] {
  const messages: PrefixesMessage[] = [];
  const none = new Float64Array(0);
  for (let at = 0; at < removed.length; at += prefixesPerMessageMax) {
    const part = Float64Array.from(removed.slice(at, at + prefixesPerMessageMax));
    messages.push({ kind: 'prefixes', isSnapshot: false, stored: none, removed: part });
  }
  for (let at = 0; at < stored.length || (at === 0 && isSnapshot); at += prefixesPerMessageMax) {
    const part = Float64Array.from(stored.slice(at, at + prefixesPerMessageMax));
    const last = messages.at(-1);
    // Mostly both are few, and one message holds them.
    if (at === 0 && last && part.length + last.removed.length <= prefixesPerMessageMax) last.stored = part;
    else messages.push({ kind: 'prefixes', isSnapshot: isSnapshot && at === 0, stored: part, removed: none });
  }
  return messages;
}

/** Packs one step's events; the inverse of {@link unpackEvents}. */
export function packEvents(events: readonly SequenceEvent[], statistics?: EngineStatistics): StepMessage {
  const count = events.length;
  const requestIds = new Float64Array(count);
  const sequences = new Uint16Array(count);
  const tokenCounts = new Uint16Array(count);
  let tokenCount = 0;
  for (const event of events) tokenCount += event.tokens.length;
  const tokens = new Int32Array(tokenCount);
  let tokenIndex = 0;
  const extras: [number, EventExtra][] = [];
  for (let i = 0; i < count; i++) {
    const event = events[i] as SequenceEvent;
    requestIds[i] = event.requestId;
    sequences[i] = event.sequence;
    tokenCounts[i] = event.tokens.length;
    for (const token of event.tokens) tokens[tokenIndex++] = token;
    const { logprobs, finish, drafts, beam, error, start, outputs, embedding } = event;
    if (logprobs || finish || error || start || outputs)
      extras.push([i, { logprobs, finish, drafts, beam, error, start, outputs, embedding }]);
  }
  const message: StepMessage = {
    kind: 'step',
    requestIds,
    sequences,
    tokenCounts,
    tokens,
    extras,
  };
  if (statistics) message.statistics = statistics;
  return message;
}

/** The events of a {@link StepMessage}, in order. */
export function unpackEvents(message: StepMessage): SequenceEvent[] {
  const { requestIds, sequences, tokenCounts, tokens } = message;
  const events: SequenceEvent[] = [];
  let tokenIndex = 0;
  for (let i = 0; i < requestIds.length; i++) {
    const count = tokenCounts[i] as number;
    // Nearly every event is one token: a view and a copy of it would cost more than all the rest.
    const own =
      count === 1
        ? [tokens[tokenIndex] as number]
        : Array.from(tokens.subarray(tokenIndex, tokenIndex + count));
    events.push({ requestId: requestIds[i] as number, sequence: sequences[i] as number, tokens: own });
    tokenIndex += count;
  }
  for (const [index, extra] of message.extras) Object.assign(events[index] as SequenceEvent, extra);
  return events;
}
