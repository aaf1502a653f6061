import { assert, definite } from '../../base/errors.ts';
import type { EngineClient, RequestHandle } from '../client.ts';
import { RuntimeError } from '../errors.ts';
import type { SequenceEvent } from '../requests/events.ts';
import type { GenerationRequest } from '../requests/request.ts';
import type { EngineDescription, EngineStatistics } from '../requests/statistics.ts';

/**
 * Several engines of the same model as one {@link EngineClient}: each request goes to the ready engine with the fewest of this
 * pool's sequences in flight (ties: the first). A prefix-aware router would replace {@link EnginePool.prototype.submit}'s choice.
 */
export class EnginePool implements EngineClient {
  readonly #members: { client: EngineClient; load: number }[];

  constructor(clients: readonly EngineClient[]) {
    assert(clients.length > 0, 'a pool needs an engine');
    this.#members = clients.map((client) => ({ client, load: 0 }));
  }

  get description(): EngineDescription {
    return definite(this.#members[0], 'the first engine').client.description;
  }

  get ready(): boolean {
    return this.#members.some((member) => member.client.ready);
  }

  get notReadyReason(): string | undefined {
    if (this.ready) return undefined;
    return this.#members.map((member) => member.client.notReadyReason).find((reason) => reason !== undefined);
  }

  submit(request: Omit<GenerationRequest, 'id'>, listener: (event: SequenceEvent) => void): RequestHandle {
    const ready = this.#members.filter((member) => member.client.ready);
    const first = ready[0];
    if (!first) {
      const reason = this.notReadyReason ?? 'no engine is ready; try again in a moment';
      throw new RuntimeError('ENGINE_UNAVAILABLE', reason);
    }
    const member = ready.reduce((least, next) => (next.load < least.load ? next : least), first);
    const handle = member.client.submit(request, (event) => {
      if (event.finish) member.load--;
      listener(event);
    });
    member.load += request.sequences;
    return handle;
  }

  /** Gauges and counters added up over the engines. */
  statistics(): EngineStatistics {
    const all = this.#members.map((member) => member.client.statistics());
    const sum = { ...definite(all[0], 'the first engine') };
    for (const next of all.slice(1)) {
      const atNs = Math.max(sum.atNs, next.atNs);
      for (const key of Object.keys(sum) as (keyof EngineStatistics)[]) sum[key] += next[key];
      sum.atNs = atNs;
    }
    return sum;
  }

  async close(options?: { drainTimeoutMs?: number }): Promise<void> {
    await Promise.all(this.#members.map((member) => member.client.close(options)));
  }
}
