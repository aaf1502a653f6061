import { Counter, Gauge, type Registry } from 'prom-client';
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
}
