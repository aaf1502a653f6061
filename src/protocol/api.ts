import type { FastifyInstance } from 'fastify';
import { type Clock, systemClock } from '../base/clock.ts';
import { streamBufferBytesMax } from '../base/limits.ts';
import type { AnswerContext } from './answering.ts';
import type { ApiKeys } from './authentication.ts';
import type { HttpLimits } from './http-server.ts';
import { requestTimeoutMs } from './limits.ts';
import type { ServerMetrics } from './metrics.ts';
import { RequestGate } from './request-gate.ts';
import { idSource } from './request-id.ts';
import type { ServedModel } from './served-model.ts';
import { ServedModels } from './served-models.ts';

/** What every protocol that answers texts over HTTP is given. */
export interface ApiOptions {
  /** The first is the default of requests that name none. */
  models: readonly ServedModel[];
  /** Absent: nothing is measured. */
  metrics?: ServerMetrics;
  limits?: HttpLimits;
  /** Absent: no key is asked for. */
  keys?: ApiKeys;
  /** Counts requests and turns them away while the server drains. Default: one of its own. */
  gate?: RequestGate;
  clock?: Clock;
}

/** What the handlers of one such protocol share. */
export interface ApiContext extends AnswerContext {
  models: ServedModels;
  /** The part of a new id behind its prefix; unique over servers. */
  nextId(): string;
}

/** @throws ProtocolError PARAMETER_INVALID for two models of one name */
export function apiContext(options: ApiOptions): ApiContext {
  const { metrics, clock = systemClock, limits = {} } = options;
  return {
    models: new ServedModels(options.models),
    metrics,
    clock,
    nextId: idSource(),
    requestTimeoutMs: limits.requestTimeoutMs ?? requestTimeoutMs,
    streamBufferBytesMax: limits.streamBufferBytesMax ?? streamBufferBytesMax,
  };
}

/** Puts the gate and the keys in front of the routes that a plugin gets from here on. */
export function guardApi(plugin: FastifyInstance, options: ApiOptions): void {
  (options.gate ?? new RequestGate()).guard(plugin);
  options.keys?.guard(plugin);
}
