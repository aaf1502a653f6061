import {
  Gauge,
  type MetricObjectWithValues,
  type MetricType,
  type MetricValue,
  type MetricValueWithName,
  type Registry,
} from 'prom-client';
import type { LengthHistogram, ModelRepository, RepositoryEngine } from '../../repository/model.ts';

/** The enumeration is in prom-client's types only. */
const histogramType = 'histogram' as unknown as MetricType;

type Label = 'model' | 'response_metric_type' | 'version' | 'le';

interface TokenLengths {
  name: string;
  help: string;
  /** The value of `response_metric_type`. */
  kind: string;
  of(engine: RepositoryEngine): LengthHistogram;
}

/** Names, texts and labels as the TensorRT-LLM backend has them. */
const families: readonly TokenLengths[] = [
  {
    name: 'nv_llm_input_token_len',
    help: 'TRTLLM response metrics',
    kind: 'total_input_tokens',
    of: ({ inputTokens }) => inputTokens,
  },
  {
    name: 'nv_llm_output_token_len',
    help: 'TRTLLM response metrics',
    kind: 'total_output_tokens',
    of: ({ outputTokens }) => outputTokens,
  },
];

/** A histogram that somebody else has counted (prom-client's own ones count by themselves), under Prometheus' names. */
class LengthMetric extends Gauge<Label> {
  readonly #lengths: TokenLengths;
  readonly #repository: Pick<ModelRepository, 'engines'>;

  constructor(
    lengths: TokenLengths,
    repository: Pick<ModelRepository, 'engines'>,
    registers: readonly Registry[],
  ) {
    const { name, help } = lengths;
    super({
      name,
      help,
      labelNames: ['model', 'response_metric_type', 'version'],
      registers: [...registers],
    });
    this.#lengths = lengths;
    this.#repository = repository;
  }

  override async get(): Promise<MetricObjectWithValues<MetricValue<Label>>> {
    const values = this.#repository.engines().flatMap((engine) => this.#valuesOf(engine));
    return { ...(await super.get()), type: histogramType, values };
  }

  #valuesOf(engine: RepositoryEngine): MetricValueWithName<Label>[] {
    const { name, kind, of } = this.#lengths;
    const { bounds, counts, sum } = of(engine);
    const labels = { model: engine.model, response_metric_type: kind, version: engine.version };
    let below = 0;
    const buckets = counts.map((count, index): MetricValueWithName<Label> => {
      below += count;
      return {
        labels: { ...labels, le: bounds[index] ?? '+Inf' },
        value: below,
        metricName: `${name}_bucket`,
      };
    });
    return [
      ...buckets,
      { labels, value: sum, metricName: `${name}_sum` },
      { labels, value: below, metricName: `${name}_count` },
    ];
  }
}

/** Adds `nv_llm_input_token_len` and `nv_llm_output_token_len`. */
export function addTokenLengths(registers: readonly Registry[], repository: ModelRepository): void {
  for (const lengths of families) new LengthMetric(lengths, repository, registers);
}
