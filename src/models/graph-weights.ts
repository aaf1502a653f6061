import { assert, definite } from '../base/errors.ts';
import type { GraphBuilder, LinearWeights, Value } from '../graph/builder.ts';
import type { DType } from '../graph/dtype.ts';
import type { Shape } from '../graph/graph.ts';

/** A tensor of the engine as graphs refer to it. */
export interface StoredWeight {
  /** The engine's (GGUF) name. */
  name: string;
  shape: Shape;
  dtype: DType;
}

/** The weights of one model by logical name, as nodes of the graph being recorded. */
export class GraphWeights {
  readonly #builder: GraphBuilder;
  readonly #weights: ReadonlyMap<string, StoredWeight>;

  constructor(builder: GraphBuilder, weights: ReadonlyMap<string, StoredWeight>) {
    this.#builder = builder;
    this.#weights = weights;
  }

  tensor(logical: string): Value {
    return definite(this.optional(logical), `weight '${logical}'`);
  }

  optional(logical: string): Value | undefined {
    const stored = this.#weights.get(logical);
    return stored && this.#builder.weight(stored.name, stored.shape, stored.dtype);
  }

  /** The logical linear of this name: `<name>.weight` and, where present, `<name>.bias`. */
  linear(name: string): LinearWeights {
    assert(!name.endsWith('.weight'), `linear '${name}' is named without its suffix`);
    const bias = this.optional(`${name}.bias`);
    return { name, weight: this.tensor(`${name}.weight`), ...(bias && { bias }) };
  }
}
