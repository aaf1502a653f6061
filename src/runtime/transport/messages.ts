import type { RequestStart, SequenceEvent } from '../requests/events.ts';
import type { GenerationRequest } from '../requests/request.ts';
import type { EngineDescription, EngineStatistics } from '../requests/statistics.ts';

/** Front end → engine: everything of one turn of the front end's loop, in one frame. */
export interface CommandMessage {
  submits: GenerationRequest[];
  cancels: { id: number; sequence?: number }[];
}

/** Engine → front end, once, when a front end connects. */
export interface HelloMessage {
  kind: 'hello';
  /** The connection's number: its request ids lie in [number, number + 1) · 2^40. */
  connection: number;
  description: EngineDescription;
  statistics: EngineStatistics;
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

type EventExtra = Pick<SequenceEvent, 'logprobs' | 'finish' | 'error'> & { start?: RequestStart };

export type EngineMessage = HelloMessage | StepMessage;

/** Packs one step's events; the inverse of {@link unpackEvents}. */
export function packEvents(events: readonly SequenceEvent[], statistics?: EngineStatistics): StepMessage {
  const count = events.length;
  const requestIds = new Float64Array(count);
  const sequences = new Uint16Array(count);
  const tokenCounts = new Uint16Array(count);
  const tokens: number[] = [];
  const extras: [number, EventExtra][] = [];
  for (let i = 0; i < count; i++) {
    const event = events[i] as SequenceEvent;
    requestIds[i] = event.requestId;
    sequences[i] = event.sequence;
    tokenCounts[i] = event.tokens.length;
    for (const token of event.tokens) tokens.push(token);
    const { logprobs, finish, error, start } = event;
    if (logprobs || finish || error || start) extras.push([i, { logprobs, finish, error, start }]);
  }
  const message: StepMessage = {
    kind: 'step',
    requestIds,
    sequences,
    tokenCounts,
    tokens: Int32Array.from(tokens),
    extras,
  };
  if (statistics) message.statistics = statistics;
  return message;
}

/** The events of a {@link StepMessage}, in order. */
export function unpackEvents(message: StepMessage): SequenceEvent[] {
  const events: SequenceEvent[] = [];
  let tokenIndex = 0;
  for (let i = 0; i < message.requestIds.length; i++) {
    const count = message.tokenCounts[i] as number;
    events.push({
      requestId: message.requestIds[i] as number,
      sequence: message.sequences[i] as number,
      tokens: Array.from(message.tokens.subarray(tokenIndex, tokenIndex + count)),
    });
    tokenIndex += count;
  }
  for (const [index, extra] of message.extras) Object.assign(events[index] as SequenceEvent, extra);
  return events;
}
