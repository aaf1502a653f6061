import { type Tensor, tensorOf, valuesOf } from '../tensor.ts';

/** Outputs that each beam has of its own; the others are the request's. */
const ofBeams = new Set(['output_ids', 'sequence_length', 'cum_log_probs', 'output_log_probs']);

/** The ids behind a beam's last one, in the tensor of all beams. */
const padding = -1;

/** One response for all beams of a request, as the original has it: [1, beams, …], the shorter ones padded. */
export class BeamOutputs {
  readonly #beams: (Tensor[] | undefined)[];
  readonly #respond: (outputs: Tensor[], isLast: boolean) => void;
  #open: number;

  constructor(beams: number, respond: (outputs: Tensor[], isLast: boolean) => void) {
    this.#beams = Array.from({ length: beams });
    this.#respond = respond;
    this.#open = beams;
  }

  /** A beam's outputs, each [1, 1, …]. The last beam to come sends the response. */
  add(beam: number, outputs: Tensor[]): void {
    this.#beams[beam] = outputs;
    if (--this.#open > 0) return;
    const beams = this.#beams.flatMap((own) => (own ? [own] : []));
    const joined = (beams[0] ?? []).map((first, index) =>
      ofBeams.has(first.name) ? beamTensor(beams.flatMap((own) => own[index] ?? [])) : first,
    );
    this.#respond(joined, true);
  }
}

function beamTensor(tensors: readonly Tensor[]): Tensor {
  const [first] = tensors as [Tensor, ...Tensor[]];
  const length = Math.max(...tensors.map(({ shape }) => shape[2] ?? 1));
  const shape = [1, tensors.length, ...(first.shape.length > 2 ? [length] : [])];
  if (first.datatype === 'FP32') {
    const values = new Float32Array(tensors.length * length);
    for (const [beam, tensor] of tensors.entries()) values.set(valuesOf(tensor, 'FP32'), beam * length);
    return tensorOf(first.name, 'FP32', shape, values);
  }
  const values = new Int32Array(tensors.length * length).fill(padding);
  for (const [beam, tensor] of tensors.entries()) values.set(valuesOf(tensor, 'INT32'), beam * length);
  return tensorOf(first.name, 'INT32', shape, values);
}
