import type { BatchInputs, GraphBuilder } from '../graph/builder.ts';
import type { KvSpec } from '../graph/graph.ts';
import type { JsonRecord } from './config.ts';
import type { GraphWeights } from './graph-weights.ts';
import type { Hyperparameters } from './hyperparameters.ts';
import type { Metadata, MetadataReader } from './metadata.ts';
import type { DecodeOutputs } from './parallel.ts';
import type { WeightRow } from './weight-map.ts';

/** A family of models: how to read its numbers, where its weights lie, and its networks. Pure data and pure functions. */
export interface Architecture {
  /** The registry row, as errors and `engine.json` print it. */
  name: string;
  /** Hugging Face's class names (`config.json`, `architectures[0]`). */
  names: readonly string[];
  /** GGUF's `general.architecture`. */
  ggufName: string;
  /** Leading part of Hugging Face's names that some checkpoints of the family leave out: 'transformer.'. */
  hfPrefix: string;
  /** @throws ModelError naming the field of config.json */
  hyperparameters(config: JsonRecord): Hyperparameters;
  /** @throws ModelError naming the key */
  hyperparametersFromGguf(metadata: MetadataReader): Hyperparameters;
  /** The inverse of {@link hyperparametersFromGguf}, for the GGUF writer. */
  ggufMetadata(p: Hyperparameters): Metadata;
  weights: readonly WeightRow[];
  kv(p: Hyperparameters): KvSpec;
  graphs: {
    /**
     * Inputs `tokens`, `positions`, `outputRows`, and `logitRows` where not all of those get logits. A pipeline stage (`p.part`) that is not
     * the first takes `hidden` [T, width] for its tokens, one that is not the last returns that alone.
     */
    decode(g: GraphBuilder, p: Hyperparameters, w: GraphWeights, batch: BatchInputs): DecodeOutputs;
  };
}
