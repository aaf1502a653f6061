import { NereidError } from '../base/errors.ts';

/** A graph that breaks the language's rules: always a fault of the architecture or pass that recorded it. */
export class GraphError extends NereidError {
  constructor(code: 'GRAPH_NODE_INVALID' | 'GRAPH_STRUCTURE_INVALID', message: string) {
    super(code, 'internal', message);
  }
}
