import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { type Clock, systemClock } from '../base/clock.ts';
import { ProtocolError } from './errors.ts';
import { TokenBucket } from './token-bucket.ts';

/** A key that clients show, with what it allows. Absent limits: none. */
export interface ApiKey {
  /** What logs and metrics call it. */
  name: string;
  /** SHA-256 of the key, hexadecimal: the key itself need not be kept anywhere. */
  sha256: string;
  requestsPerMinute?: number;
  /** Of prompts and answers together. Counted when an answer is over, so a running one may go beyond. */
  tokensPerMinute?: number;
  /** Requests that are not answered yet. */
  concurrentRequests?: number;
}

/** Who hears what keys are used for. */
export interface KeyObserver {
  request(key: string): void;
  refused(key: string, reason: KeyLimit): void;
  tokens(key: string, count: number): void;
}

/** What a key was used for since it was last told, in one of several processes that share its limits. */
export interface KeyChange {
  key: string;
  requests: number;
  tokens: number;
  /** Requests under way, more or fewer. */
  running: number;
}

/** The limits of a key, by the name that metrics give them. */
export type KeyLimit = 'requests_per_minute' | 'tokens_per_minute' | 'concurrent_requests';

/** SHA-256 of a key, hexadecimal. */
export function keyDigest(key: string): string {
  return digest(key).toString('hex');
}

/** Keys without limits, called `key-1`, `key-2`, … */
export function plainKeys(keys: readonly string[]): ApiKey[] {
  return keys.map((key, index) => ({ name: `key-${index + 1}`, sha256: keyDigest(key) }));
}

/** A key in use. Its counts outlive a change of the key file. */
export class KeyUse {
  readonly name: string;
  #key: ApiKey;
  #requests: TokenBucket | undefined;
  #tokens: TokenBucket | undefined;
  #running = 0;
  #runningElsewhere = 0;
  readonly #clock: Clock;
  readonly #observer: KeyObserver | undefined;
  readonly #onUse: (change: KeyChange) => void;

  /** @param onUse told of all that happens to it here */
  constructor(
    key: ApiKey,
    clock: Clock,
    observer: KeyObserver | undefined,
    onUse: (change: KeyChange) => void,
  ) {
    this.name = key.name;
    this.#key = key;
    this.#clock = clock;
    this.#observer = observer;
    this.#onUse = onUse;
    this.change(key);
  }

  /** What another process used of it. */
  usedElsewhere({ requests, tokens, running }: KeyChange): void {
    this.#requests?.take(requests);
    this.#tokens?.take(tokens);
    this.#runningElsewhere += running;
  }

  /** Other limits from now on; what was used stays used where the limit is the same. */
  change(key: ApiKey): void {
    this.#key = key;
    const bucket = (perMinute: number | undefined, old: TokenBucket | undefined): TokenBucket | undefined => {
      if (perMinute === undefined) return undefined;
      return old?.perMinute === perMinute ? old : new TokenBucket(perMinute, this.#clock);
    };
    this.#requests = bucket(key.requestsPerMinute, this.#requests);
    this.#tokens = bucket(key.tokensPerMinute, this.#tokens);
  }

  /**
   * One request more. @returns what ends it; to be called once
   * @throws ProtocolError RATE_LIMITED
   */
  begin(): () => void {
    const { concurrentRequests } = this.#key;
    if (concurrentRequests !== undefined && this.#running + this.#runningElsewhere >= concurrentRequests) {
      throw this.#refused('concurrent_requests', concurrentRequests, 1);
    }
    // A bucket that paid for a long answer is below zero.
    if (this.#tokens && this.#tokens.level <= 0) {
      throw this.#refused('tokens_per_minute', this.#tokens.perMinute, this.#tokens.secondsUntil(1));
    }
    if (this.#requests && this.#requests.level < 1) {
      throw this.#refused('requests_per_minute', this.#requests.perMinute, this.#requests.secondsUntil(1));
    }
    this.#requests?.take(1);
    this.#running++;
    this.#observer?.request(this.name);
    this.#onUse({ key: this.name, requests: 1, tokens: 0, running: 1 });
    return () => {
      this.#running--;
      this.#onUse({ key: this.name, requests: 0, tokens: 0, running: -1 });
    };
  }

  /** Tokens that a request of this key took. */
  spend(tokens: number): void {
    this.#tokens?.take(tokens);
    this.#observer?.tokens(this.name, tokens);
    this.#onUse({ key: this.name, requests: 0, tokens, running: 0 });
  }

  #refused(limit: KeyLimit, allowed: number, seconds: number): ProtocolError {
    this.#observer?.refused(this.name, limit);
    const retryAfterSeconds = Math.max(1, Math.ceil(seconds));
    const message = `the key '${this.name}' is at its limit of ${allowed} ${limit.replaceAll('_', ' ')}; try again in ${retryAfterSeconds} s`;
    return new ProtocolError('RATE_LIMITED', message, { retryAfterSeconds });
  }
}

/** Checks keys in a time that tells nothing about them, and holds each to its limits. */
export class ApiKeys {
  readonly #clock: Clock;
  readonly #observer: KeyObserver | undefined;
  #uses: { digest: Buffer; use: KeyUse }[] = [];
  /** Where several processes share the limits: told of all that happens here. */
  onUse: (change: KeyChange) => void = () => {};

  constructor(keys: readonly ApiKey[], observer?: KeyObserver, clock: Clock = systemClock) {
    this.#clock = clock;
    this.#observer = observer;
    this.replace(keys);
  }

  /** Other keys from now on; one of the same name keeps its counts. */
  replace(keys: readonly ApiKey[]): void {
    const known = new Map(this.#uses.map(({ use }) => [use.name, use]));
    this.#uses = keys.map((key) => {
      const use =
        known.get(key.name) ?? new KeyUse(key, this.#clock, this.#observer, (change) => this.onUse(change));
      use.change(key);
      return { digest: Buffer.from(key.sha256, 'hex'), use };
    });
  }

  /** What other processes used of the keys. */
  usedElsewhere(changes: readonly KeyChange[]): void {
    const known = new Map(this.#uses.map(({ use }) => [use.name, use]));
    for (const change of changes) known.get(change.key)?.usedElsewhere(change);
  }

  /**
   * Whose key it is.
   * @param presented without `Bearer `
   * @throws ProtocolError UNAUTHENTICATED
   */
  check(presented: string | undefined): KeyUse {
    if (presented === undefined) {
      const message = "this server wants an API key: send the header 'Authorization: Bearer KEY'";
      throw new ProtocolError('UNAUTHENTICATED', message);
    }
    const found = digest(presented.trim());
    // Every key is compared, whatever the first ones give.
    const [match] = this.#uses.filter((known) => timingSafeEqual(known.digest, found));
    if (!match) throw new ProtocolError('UNAUTHENTICATED', 'the API key is not one of this server');
    return match.use;
  }

  /** Asks for a key on all routes of an app or plugin, before the body is read: strangers cost nothing. */
  guard(app: FastifyInstance): void {
    app.addHook('onRequest', (request, reply, done) => {
      try {
        const use = this.check(presentedKey(request));
        reply.raw.once('close', use.begin());
        request.exchange.key = use;
        request.exchange.log.key = use.name;
        done();
      } catch (error) {
        done(error as Error);
      }
    });
  }
}

/** The key of an `authorization` header or of gRPC metadata, which says `Bearer KEY`. */
export function bearerKey(authorization: string | undefined): string | undefined {
  return /^Bearer +(.+)$/i.exec(authorization ?? '')?.[1];
}

/** `Authorization: Bearer KEY`; Anthropic's clients say `x-api-key`, Azure's `api-key`. */
function presentedKey({ headers }: FastifyRequest): string | undefined {
  const bearer = bearerKey(headers.authorization);
  const other = headers['x-api-key'] ?? headers['api-key'];
  return bearer ?? (typeof other === 'string' ? other : undefined);
}

/** Of equal length for all keys, as timingSafeEqual wants. */
function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}
