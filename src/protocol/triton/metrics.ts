import { cpus, freemem, totalmem } from 'node:os';
import { Counter, Gauge, type Registry } from 'prom-client';
import type { ModelRepository, ModelStatistics } from '../../repository/model.ts';
import { engineMetrics } from './engine-metrics.ts';
import { addTokenLengths } from './token-length-metrics.ts';

/** A family over the ready models, read when Prometheus asks. */
interface ModelReading {
  name: string;
  help: string;
  type: 'counter' | 'gauge';
  value(statistics: ModelStatistics): number;
}

const microseconds = (of: keyof ModelStatistics['inference_stats']) => (statistics: ModelStatistics) =>
  Math.round(statistics.inference_stats[of].ns / 1000);

const cacheNote = '(does not include cached requests)';

/** Names and help texts as tritonserver has them. */
const readings: readonly ModelReading[] = [
  {
    name: 'nv_inference_request_success',
    help: 'Number of successful inference requests, all batch sizes',
    type: 'counter',
    value: (s) => s.inference_stats.success.count,
  },
  {
    name: 'nv_inference_count',
    help: `Number of inferences performed ${cacheNote}`,
    type: 'counter',
    value: (s) => s.inference_count,
  },
  {
    name: 'nv_inference_exec_count',
    help: `Number of model executions performed ${cacheNote}`,
    type: 'counter',
    value: (s) => s.execution_count,
  },
  {
    name: 'nv_inference_request_duration_us',
    help: 'Cumulative inference request duration in microseconds (includes cached requests)',
    type: 'counter',
    value: microseconds('success'),
  },
  {
    name: 'nv_inference_queue_duration_us',
    help: 'Cumulative inference queuing duration in microseconds (includes cached requests)',
    type: 'counter',
    value: microseconds('queue'),
  },
  {
    name: 'nv_inference_compute_input_duration_us',
    help: `Cumulative compute input duration in microseconds ${cacheNote}`,
    type: 'counter',
    value: microseconds('compute_input'),
  },
  {
    name: 'nv_inference_compute_infer_duration_us',
    help: `Cumulative compute inference duration in microseconds ${cacheNote}`,
    type: 'counter',
    value: microseconds('compute_infer'),
  },
  {
    name: 'nv_inference_compute_output_duration_us',
    help: `Cumulative inference compute output duration in microseconds ${cacheNote}`,
    type: 'counter',
    value: microseconds('compute_output'),
  },
  {
    name: 'nv_inference_pending_request_count',
    help: 'Instantaneous number of pending requests awaiting execution per-model.',
    type: 'gauge',
    value: (s) => s.pendingRequests,
  },
  {
    name: 'nv_model_load_duration_secs',
    help: 'Model load time in seconds',
    type: 'gauge',
    value: (s) => s.loadSeconds,
  },
];

type Report = (labels: Record<string, string>, value: number) => void;

/** Adds tritonserver's `nv_*` families, and the TensorRT-LLM backend's, to a registry. */
export function addTritonMetrics(registry: Registry, repository: ModelRepository): void {
  const registers = [registry];
  for (const { name, help, type, value } of readings) {
    const each = (report: Report): void => {
      for (const statistics of repository.statistics()) report(labelsOf(statistics), value(statistics));
    };
    addFamily({ name, help, type, labelNames: ['model', 'version'], registers }, each);
  }
  addFamily(
    {
      name: 'nv_inference_request_failure',
      help: 'Number of failed inference requests, all batch sizes',
      type: 'counter',
      labelNames: ['model', 'reason', 'version'],
      registers,
    },
    (report) => {
      for (const statistics of repository.statistics()) {
        const { model, version } = labelsOf(statistics);
        for (const [reason, count] of Object.entries(statistics.failures))
          report({ model, reason, version }, count);
      }
    },
  );
  for (const { each, ...family } of engineMetrics(repository)) {
    // Every front end of an engine sees the same engine.
    addFamily({ ...family, type: 'gauge', registers, aggregator: 'max' }, each);
  }
  addTokenLengths(registers, repository);
  addMachine(registers);
}

function labelsOf({ name, version }: ModelStatistics): { model: string; version: string } {
  return { model: name, version };
}

interface Family {
  name: string;
  help: string;
  type: 'counter' | 'gauge';
  labelNames: readonly string[];
  registers: Registry[];
  /** How the values of several front ends are put together. Default: added up. */
  aggregator?: 'sum' | 'max';
}

function addFamily({ type, ...options }: Family, each: (report: Report) => void): void {
  const settings = { aggregator: 'sum' as const, ...options };
  if (type === 'gauge') {
    new Gauge({
      ...settings,
      collect() {
        this.reset();
        each((labels, value) => this.set(labels, value));
      },
    });
    return;
  }
  new Counter({
    ...settings,
    collect() {
      this.reset();
      each((labels, value) => this.inc(labels, value));
    },
  });
}

/** The machine, seen alike by every front end. */
function addMachine(registers: Registry[]): void {
  const gauge = (name: string, help: string, read: () => number): void => {
    addFamily({ name, help, type: 'gauge', labelNames: [], registers, aggregator: 'max' }, (report) =>
      report({}, read()),
    );
  };
  gauge('nv_cpu_utilization', 'CPU utilization rate [0.0 - 1.0]', cpuUtilization());
  gauge('nv_cpu_memory_total_bytes', 'CPU total memory (RAM), in bytes', totalmem);
  gauge('nv_cpu_memory_used_bytes', 'CPU used memory (RAM), in bytes', () => totalmem() - freemem());
  // There is none, and dashboards divide by it all the same.
  gauge('nv_pinned_memory_pool_total_bytes', 'Pinned memory pool total memory size, in bytes', () => 0);
  gauge('nv_pinned_memory_pool_used_bytes', 'Pinned memory pool used memory size, in bytes', () => 0);
}

/** Busy share of all cores since it was last asked. */
function cpuUtilization(): () => number {
  const read = (): { busy: number; all: number } => {
    let busy = 0;
    let all = 0;
    for (const { times } of cpus()) {
      const sum = times.user + times.nice + times.sys + times.irq + times.idle;
      all += sum;
      busy += sum - times.idle;
    }
    return { busy, all };
  };
  let last = read();
  return () => {
    const now = read();
    const share = now.all > last.all ? (now.busy - last.busy) / (now.all - last.all) : 0;
    last = now;
    return Math.max(0, Math.min(1, share));
  };
}
