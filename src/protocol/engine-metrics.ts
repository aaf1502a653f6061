import { Counter, Gauge, type Registry } from 'prom-client';
import { MonotonicTotal } from './monotonic-total.ts';
import type { ServedModel } from './served-model.ts';

const modelLabel = 'model_name';

/** Whether engines are there, and how often they had to be started again. Told also while none is: that is when one asks. */
export function engineMetrics(registry: Registry, models: readonly ServedModel[]): void {
  const registers = [registry];
  const labelNames = [modelLabel];
  // Every front end sees the same engines: added up, they would count them several times.
  const aggregator = 'max';
  new Gauge({
    name: 'nereid:engines_ready',
    help: 'Engines of the model that take requests.',
    labelNames,
    registers,
    aggregator,
    collect() {
      for (const { name, client } of models) {
        this.set({ [modelLabel]: name }, client.engines?.ready ?? (client.ready ? 1 : 0));
      }
    },
  });
  new Counter({
    name: 'nereid:engine_restarts_total',
    help: 'Restarts of the model’s engines, as this front end saw them come back.',
    labelNames,
    registers,
    aggregator,
    collect() {
      this.reset();
      for (const { name, client } of models) this.inc({ [modelLabel]: name }, client.engines?.restarts ?? 0);
    },
  });
  draftPlaceMetrics(registry, models);
  adapterMetrics(registry, models);
}

/** Of the drafts that held, how many at each place behind the last known token; `position` begins at 0. */
function draftPlaceMetrics(registry: Registry, models: readonly ServedModel[]): void {
  // What an engine counted before it was restarted stays in the sums.
  const totals = new Map<string, MonotonicTotal>();
  new Counter({
    name: 'vllm:spec_decode_num_accepted_tokens_per_pos_total',
    help: 'Draft tokens that held, by their place among those that were verified together.',
    labelNames: [modelLabel, 'position'],
    registers: [registry],
    aggregator: 'max',
    collect() {
      this.reset();
      for (const { name, client } of models) {
        if (!client.ready) continue;
        for (const [position, accepted] of client.statistics().acceptedDraftsByPlace.entries()) {
          const key = `${name}\n${position}`;
          const total = totals.get(key) ?? new MonotonicTotal();
          totals.set(key, total);
          this.inc({ [modelLabel]: name, position: String(position) }, total.of(accepted));
        }
      }
    },
  });
}

/** vLLM's way to say which adapters have requests: names in labels, the time as the value. The Gateway API's inference extension routes by it. */
function adapterMetrics(registry: Registry, models: readonly ServedModel[]): void {
  new Gauge({
    name: 'vllm:lora_requests_info',
    help: 'LoRA adapters with requests, by name; the value is when this was read, in seconds since the epoch.',
    labelNames: [modelLabel, 'max_lora', 'running_lora_adapters', 'waiting_lora_adapters'],
    registers: [registry],
    aggregator: 'max',
    collect() {
      this.reset();
      for (const { name, client } of models) {
        const use = client.ready && client.adapters ? client.statistics().adapters : undefined;
        if (!use) continue;
        const labels = {
          [modelLabel]: name,
          max_lora: String(use.slots),
          running_lora_adapters: use.running.join(','),
          waiting_lora_adapters: use.waiting.join(','),
        };
        this.set(labels, Date.now() / 1000);
      }
    },
  });
}
