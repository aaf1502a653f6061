import type { ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Clock } from '../base/clock.ts';
import type { GenerationInput } from '../generation/generation.ts';
import { type Answer, GenerationGroup } from '../generation/generation-group.ts';
import { ProtocolError } from './errors.ts';
import { EventStream } from './event-stream.ts';
import { Gathering } from './gathering.ts';
import type { ServerMetrics } from './metrics.ts';
import type { LoggedError } from './request-log.ts';
import type { ServedModel } from './served-model.ts';

/** What the handlers of one server share. */
export interface AnswerContext {
  metrics: ServerMetrics | undefined;
  clock: Clock;
  requestTimeoutMs: number;
  streamBufferBytesMax: number;
}

/** An answer that is sent as a whole. */
export interface GatheredAnswer extends Answer {
  /** Resolves with the response's body. */
  readonly body: Promise<object>;
  /** Finish reasons, for the log. */
  readonly finishReasons: string;
}

/** Called once, with the finish reason, or `error` and which. */
export type StreamOver = (outcome: string, error?: LoggedError) => void;

/** A checked request, ready to run: what to generate, and how a protocol words it. */
export interface AnswerPlan {
  model: ServedModel;
  /** The answer's id. */
  id: string;
  inputs: readonly GenerationInput[];
  stream: boolean;
  gathered(): GatheredAnswer;
  streamed(stream: EventStream, response: ServerResponse, onOver: StreamOver): Answer;
}

/** Runs a plan and answers, as a whole or as a stream. The generations are cancelled when the client leaves or time is up. */
export async function answer(
  context: AnswerContext,
  request: FastifyRequest,
  reply: FastifyReply,
  plan: AnswerPlan,
): Promise<unknown> {
  request.exchange.log.model = plan.model.name;
  request.exchange.log.id = plan.id;
  if (request.raw.socket.destroyed) throw new ProtocolError('CLIENT_CLOSED', 'the client left');
  return plan.stream
    ? answerStreaming(context, request, reply, plan)
    : answerWhole(context, request, reply, plan);
}

function submit(
  context: AnswerContext,
  request: FastifyRequest,
  plan: AnswerPlan,
  to: Answer,
): GenerationGroup {
  const observer = context.metrics?.observer(plan.model.parent ?? plan.model.name);
  return new GenerationGroup(plan.model, plan.inputs, to, {
    observer: request.exchange.traced?.following(plan, observer) ?? observer,
    clock: context.clock,
    arrivedNs: request.exchange.arrivedNs,
  });
}

async function answerWhole(
  context: AnswerContext,
  request: FastifyRequest,
  reply: FastifyReply,
  plan: AnswerPlan,
): Promise<unknown> {
  const whole = plan.gathered();
  const gathering = new Gathering(request.exchange.answers, () => {
    group.cancel();
    whole.fail(answersFull());
  });
  const group = submit(context, request, plan, gathering.counting(whole));
  const onClose = () => {
    group.cancel();
    whole.fail(new ProtocolError('CLIENT_CLOSED', 'the client left before the answer was done'));
  };
  reply.raw.once('close', onClose);
  const timer = startTimeout(context, () => {
    group.cancel();
    whole.fail(timeoutError(context));
  });
  try {
    const body = await whole.body;
    logOutcome(request, group, whole.finishReasons);
    return body;
  } catch (error) {
    logOutcome(request, group, 'error');
    throw error;
  } finally {
    clearTimeout(timer);
    reply.raw.off('close', onClose);
    gathering.close();
    // Ended already unless the answer gave up.
    group.cancel();
  }
}

function answerStreaming(
  context: AnswerContext,
  request: FastifyRequest,
  reply: FastifyReply,
  plan: AnswerPlan,
): FastifyReply {
  const { raw } = reply;
  let timer: NodeJS.Timeout | undefined;
  const stream = new EventStream(request.raw, raw, {
    bufferBytesMax: context.streamBufferBytesMax,
    onAbort: (reason) => {
      clearTimeout(timer);
      group?.cancel();
      if (group) logOutcome(request, group, 'abort', abortErrors[reason]);
    },
  });
  const streamed = plan.streamed(stream, raw, (outcome, error) => {
    clearTimeout(timer);
    if (group) logOutcome(request, group, outcome, error);
  });
  let group: GenerationGroup | undefined;
  try {
    group = submit(context, request, plan, streamed);
    stream.requestId = group.requestId;
  } catch (error) {
    // Not hijacked yet: fastify answers.
    stream.abandon();
    throw error;
  }
  reply.hijack();
  timer = startTimeout(context, () => {
    group?.cancel();
    streamed.fail(timeoutError(context));
  });
  return reply;
}

/** Why a stream ended that nobody read to its end. */
const abortErrors: Readonly<Record<'client-closed' | 'reader-too-slow', LoggedError>> = {
  'client-closed': { code: 'client_closed', message: 'the client left before the answer was done' },
  'reader-too-slow': { code: 'reader_too_slow', message: 'the client left too much of its stream unread' },
};

/** @param finishReason of the choices, or `abort` or `error` */
function logOutcome(
  request: FastifyRequest,
  group: GenerationGroup,
  finishReason: string,
  error?: LoggedError,
): void {
  const { promptTokens, completionTokens, cachedTokens } = group.usage;
  request.exchange.key?.spend(promptTokens + completionTokens);
  Object.assign(request.exchange.log, {
    prompt_tokens: promptTokens,
    cached_tokens: cachedTokens,
    completion_tokens: completionTokens,
    finish_reason: finishReason,
    ...(error ? { error } : {}),
  });
}

function answersFull(): ProtocolError {
  const problem = 'too many bytes of answers are gathered or wait to be read (unreadAnswerBytesMax)';
  return new ProtocolError('ANSWERS_FULL', `${problem}; try again later, ask for less, or stream it`);
}

function timeoutError(context: AnswerContext): ProtocolError {
  const seconds = context.requestTimeoutMs / 1000;
  const message = `the answer took longer than the ${seconds} s that this server allows a request; ask for less, or raise its --request-timeout`;
  return new ProtocolError('REQUEST_TIMEOUT', message);
}

function startTimeout(context: AnswerContext, onTimeout: () => void): NodeJS.Timeout | undefined {
  return context.requestTimeoutMs > 0 ? setTimeout(onTimeout, context.requestTimeoutMs) : undefined;
}
