import { GraphBuilder } from '../graph/builder.ts';
import type { BatchShape, Graph, KvSpec } from '../graph/graph.ts';
import { verifyGraph } from '../graph/spec.ts';
import type { Architecture } from './architecture.ts';
import { GraphWeights, type StoredWeight } from './graph-weights.ts';
import type { Hyperparameters } from './hyperparameters.ts';
import { isLastStage } from './parallel.ts';
import { bindWeights } from './weights.ts';

/** `NEREID_VERIFY_GRAPHS=1`: the debug level that holds every recorded graph against the language's spec. */
const verifiesGraphs = process.env.NEREID_VERIFY_GRAPHS === '1';

/** What a device is given to run (its `DeviceModelSource`), for one model. */
export interface ModelSource<W extends StoredWeight> {
  record(shape: BatchShape): Graph;
  weights: ReadonlyMap<string, W>;
  kv: KvSpec;
  /** Columns of the final hidden states; 0 in a pipeline stage that is not the last, which has none. */
  hiddenWidth: number;
  vocabularySize: number;
  contextLength: number;
}

/**
 * Joins an architecture with a model's numbers and the tensors of its engine.
 * @param hyperparameters of one rank ({@link hyperparametersOfRank}) where the model is divided
 * @param weights by GGUF name; more than the model needs is fine
 * @throws ModelError naming the tensor that is missing or has the wrong shape
 */
export function modelSource<W extends StoredWeight>(
  architecture: Architecture,
  hyperparameters: Hyperparameters,
  weights: ReadonlyMap<string, W>,
): ModelSource<W> {
  const bound = bindWeights(architecture, hyperparameters, weights);
  return {
    record(shape) {
      const builder = new GraphBuilder();
      const batch = builder.batch(shape);
      const graphWeights = new GraphWeights(builder, bound);
      const { logits, hidden } = architecture.graphs.decode(builder, hyperparameters, graphWeights, batch);
      const graph = builder.finish({ ...(logits && { logits }), ...(hidden && { hidden }) });
      if (verifiesGraphs) verifyGraph(graph);
      return graph;
    },
    weights,
    kv: architecture.kv(hyperparameters),
    hiddenWidth: isLastStage(hyperparameters) ? hyperparameters.width : 0,
    vocabularySize: hyperparameters.vocabularySize,
    contextLength: hyperparameters.contextLength,
  };
}
