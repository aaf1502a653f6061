import { assert, definite } from '../../base/errors.ts';
import type { AdapterDirectory } from '../adapters/adapter.ts';
import { hasAdapter, PooledAdapters } from '../adapters/pooled-adapters.ts';
import type { EngineClient, RequestHandle } from '../client.ts';
import { adapterNotLoaded, RuntimeError } from '../errors.ts';
import { prefixKeyOf } from '../kv/prefix-hash.ts';
import type { SequenceEvent } from '../requests/events.ts';
import type { GenerationRequest } from '../requests/request.ts';
import { combinedStatistics, type EngineDescription, type EngineStatistics } from '../requests/statistics.ts';
import { EngineLoad } from './engine-load.ts';
import type { PrefixView } from './prefix-view.ts';
import { PromptHashes } from './prompt-hashes.ts';
import { type EngineView, type Routing, type RoutingName, routingDefault, routings } from './router.ts';

interface Member {
  client: EngineClient;
  load: EngineLoad;
  /** Undefined where the routing does not ask, or the engine cannot tell. */
  prefixes: PrefixView | undefined;
}

/** Several engines of the same model as one {@link EngineClient}: each request goes to a ready one, chosen by `router.ts`. */
export class EnginePool implements EngineClient {
  readonly #members: Member[];
  readonly #routing: Routing;
  readonly #adapters: PooledAdapters;
  #requests = 0;

  constructor(clients: readonly EngineClient[], routing: RoutingName = routingDefault) {
    assert(clients.length > 0, 'a pool needs an engine');
    this.#routing = routings[routing];
    this.#adapters = new PooledAdapters(clients);
    // One engine needs no choice, and nobody pays for what is not used.
    const watches = this.#routing.usesPrefixes && clients.length > 1;
    this.#members = clients.map((client) => ({
      client,
      load: new EngineLoad(),
      prefixes: watches ? client.watchPrefixes?.() : undefined,
    }));
  }

  get description(): EngineDescription {
    return definite(this.#members[0], 'the first engine').client.description;
  }

  get ready(): boolean {
    return this.#members.some((member) => member.client.ready);
  }

  get engines(): { ready: number; restarts: number } {
    const sum = { ready: 0, restarts: 0 };
    for (const { client } of this.#members) {
      sum.ready += client.engines?.ready ?? (client.ready ? 1 : 0);
      sum.restarts += client.engines?.restarts ?? 0;
    }
    return sum;
  }

  get notReadyReason(): string | undefined {
    if (this.ready) return undefined;
    return this.#members.map((member) => member.client.notReadyReason).find((reason) => reason !== undefined);
  }

  get adapters(): AdapterDirectory | undefined {
    return this.#adapters.isServed ? this.#adapters : undefined;
  }

  submit(request: Omit<GenerationRequest, 'id'>, listener: (event: SequenceEvent) => void): RequestHandle {
    const { adapter } = request;
    const alive = this.#members.filter((member) => member.client.ready);
    // One that came back may not have loaded it again yet.
    const ready = adapter ? alive.filter(({ client }) => hasAdapter(client, adapter)) : alive;
    if (ready.length === 0 && adapter && alive.length > 0) throw adapterNotLoaded(adapter.name);
    if (ready.length === 0) {
      const reason = this.notReadyReason ?? 'no engine is ready; try again in a moment';
      throw new RuntimeError('ENGINE_UNAVAILABLE', reason);
    }
    const views = viewsOf(ready, request);
    const routed = { promptTokens: request.promptTokens.length, ordinal: this.#requests++ };
    const chosen = this.#routing.choose(views, routed);
    const { client, load, prefixes } = definite(ready[chosen], 'the engine that was chosen');
    const { prompt, tokensKnown } = definite(views[chosen], 'its view');
    // Events come later, never from within `submit`.
    const handle = client.submit(request, (event) => {
      const isOver = own.take(event);
      if (expected > 0 && prompt && (event.start || isOver)) {
        prefixes?.settle(prompt, expected);
        expected = 0;
      }
      listener(event);
    });
    const own = load.add(request, tokensKnown);
    let expected = prompt && prefixes ? prefixes.expect(prompt) : 0;
    return handle;
  }

  /** Counters and gauges of all engines together. */
  releaseRetained(): void {
    for (const { client } of this.#members) client.releaseRetained();
  }

  statistics(): EngineStatistics {
    return combinedStatistics(this.#members.map((member) => member.client.statistics()));
  }

  async close(options?: { drainTimeoutMs?: number }): Promise<void> {
    await Promise.all(this.#members.map((member) => member.client.close(options)));
  }
}

interface PoolView extends EngineView {
  prompt: PromptHashes | undefined;
}

/** What the router may know of each member; a prompt is hashed once for each size of chunk, which is mostly one. */
function viewsOf(members: readonly Member[], request: Omit<GenerationRequest, 'id'>): PoolView[] {
  const hashes = new Map<number, PromptHashes>();
  return members.map(({ client, load: { tokensOutstanding }, prefixes }) => {
    if (!prefixes) return { tokensOutstanding, tokensKnown: 0, prompt: undefined };
    const { kvChunkPositions } = client.description;
    let prompt = hashes.get(kvChunkPositions);
    if (!prompt) {
      prompt = new PromptHashes(request.promptTokens, prefixKeyOf(request), kvChunkPositions);
      hashes.set(kvChunkPositions, prompt);
    }
    return { tokensOutstanding, tokensKnown: prefixes.chunksKnown(prompt) * kvChunkPositions, prompt };
  });
}
