import type { ModelConfig, ModelInput } from './config/types.ts';
import { dataTypeOf } from './config/types.ts';
import { RepositoryError } from './errors.ts';
import type { InferRequest } from './model.ts';
import { type DataType, elementBytes, elementCount, type Tensor } from './tensor.ts';

interface DeclaredInput {
  name: string;
  datatype: DataType | undefined;
  dims: readonly number[];
  isOptional: boolean;
}

/**
 * Checks requests against a model's declaration, in Triton's words. Unlike Triton, which counts, a required input is missed by name.
 */
export class RequestCheck {
  readonly #model: string;
  readonly #batchMax: number;
  readonly #inputs: ReadonlyMap<string, DeclaredInput>;
  readonly #required: readonly string[];
  readonly #outputs: ReadonlySet<string>;

  constructor(config: ModelConfig) {
    this.#model = config.name;
    this.#batchMax = config.max_batch_size;
    this.#inputs = new Map(config.input.map((input) => [input.name, declared(input)]));
    this.#required = [...this.#inputs.values()].filter((input) => !input.isOptional).map(({ name }) => name);
    this.#outputs = new Set(config.output.map(({ name }) => name));
  }

  /**
   * The request's batch size (1 for models that do not batch).
   * @throws RepositoryError INVALID_ARGUMENT, beginning with `[request id: …] `
   */
  check(request: InferRequest): number {
    const prefix = requestPrefix(request.id);
    this.#checkNames(request, prefix);
    let batch: number | undefined;
    for (const tensor of request.inputs) {
      const input = this.#inputs.get(tensor.name) as DeclaredInput;
      if (tensor.datatype !== input.datatype) {
        const model = `but model '${this.#model}' expects '${input.datatype}'`;
        throw invalid(
          `${prefix}inference input '${tensor.name}' data-type is '${tensor.datatype}', ${model}`,
        );
      }
      const size = this.#checkShape(tensor, input, prefix);
      if (batch !== undefined && size !== batch) {
        throw invalid(
          `${prefix}input '${tensor.name}' batch size does not match other inputs for '${this.#model}'`,
        );
      }
      batch = size;
    }
    // Triton takes an empty batch for one, and then misses its bytes.
    const batchSize = Math.max(1, batch ?? 1);
    for (const tensor of request.inputs) {
      checkBytes(tensor, expectedElements(tensor, batchSize, this.#batchMax), prefix, this.#model);
    }
    return batchSize;
  }

  #checkNames(request: InferRequest, prefix: string): void {
    const names = new Set<string>();
    for (const { name } of request.inputs) {
      if (names.has(name)) throw invalid(`${prefix}input '${name}' already exists in request`);
      names.add(name);
    }
    const missing = this.#required.filter((name) => !names.has(name));
    // Triton counts first, then looks at names, and forgets the prefix there.
    const isCountRight = names.size >= this.#required.length && names.size <= this.#inputs.size;
    if (!isCountRight) throw invalid(`${prefix}${this.#countText(names, missing)}`);
    for (const name of names) {
      if (!this.#inputs.has(name)) {
        throw invalid(`unexpected inference input '${name}' for model '${this.#model}'`);
      }
    }
    if (missing.length > 0) throw invalid(`${prefix}${this.#countText(names, missing)}`);
    for (const name of request.outputs ?? []) {
      if (!this.#outputs.has(name)) {
        throw invalid(`unexpected inference output '${name}' for model '${this.#model}'`);
      }
    }
  }

  #countText(names: ReadonlySet<string>, missing: readonly string[]): string {
    const quoted = (items: Iterable<string>) => [...items].map((item) => `'${item}'`).join(',');
    const all = this.#inputs.size;
    const required = this.#required.length;
    const got = `but got ${names.size} inputs for model '${this.#model}'`;
    const expected =
      all === required
        ? `expected ${all} inputs ${got}`
        : `expected number of inputs between ${required} and ${all} ${got}`;
    // Triton lists the latest first, out of a hash map. Its own text where none is missing: its opening bracket comes with the first name.
    const absent = missing.length > 0 ? `[${quoted(missing)}]` : ']';
    return (
      `${expected}. Got input(s) [${quoted([...names].reverse())}], but missing required input(s) ${absent}. ` +
      'Please provide all required input(s).'
    );
  }

  /** @returns the batch size */
  #checkShape(tensor: Tensor, input: DeclaredInput, prefix: string): number {
    const { shape } = tensor;
    const isBatching = this.#batchMax > 0;
    const item = isBatching ? shape.slice(1) : shape;
    const fits =
      shape.every((dimension) => Number.isSafeInteger(dimension) && dimension >= 0) &&
      item.length === input.dims.length &&
      (!isBatching || shape.length > 0) &&
      input.dims.every((dimension, index) => dimension === -1 || dimension === item[index]);
    if (!fits) {
      const expected = isBatching ? [-1, ...input.dims] : input.dims;
      const note = isBatching
        ? ' NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each input ' +
          'shape. If you want to specify the full shape including the batch dim in your input dims config, try setting ' +
          'max_batch_size to zero. See the model configuration docs for more info on max_batch_size.'
        : ' ';
      throw invalid(
        `${prefix}unexpected shape for input '${tensor.name}' for model '${this.#model}'. ` +
          `Expected [${expected}], got [${shape}].${note}`,
      );
    }
    if (!isBatching) return 1;
    const batch = shape[0] as number;
    if (batch > this.#batchMax) {
      throw invalid(
        `${prefix}inference request batch-size must be <= ${this.#batchMax} for '${this.#model}'`,
      );
    }
    return batch;
  }
}

/** What Triton puts in front of a refusal. */
export function requestPrefix(id: string): string {
  return `[request id: ${id === '' ? '<id_unknown>' : id}] `;
}

function declared(input: ModelInput): DeclaredInput {
  return {
    name: input.name,
    datatype: dataTypeOf(input.data_type),
    dims: input.dims,
    isOptional: input.optional,
  };
}

function expectedElements({ shape }: Tensor, batchSize: number, batchMax: number): number {
  return batchMax > 0 ? batchSize * elementCount(shape.slice(1)) : elementCount(shape);
}

function checkBytes(tensor: Tensor, expected: number, prefix: string, model: string): void {
  if (tensor.datatype === 'BYTES') {
    checkStrings(tensor, expected, prefix, model);
    return;
  }
  const bytes = expected * elementBytes[tensor.datatype];
  if (bytes !== tensor.data.byteLength) {
    const sizes = `Expected ${bytes}, got ${tensor.data.byteLength}`;
    throw invalid(
      `${prefix}input byte size mismatch for input '${tensor.name}' for model '${model}'. ${sizes}`,
    );
  }
}

/** Counts the elements of a BYTES tensor without taking them apart. */
function checkStrings({ name, data }: Tensor, expected: number, prefix: string, model: string): void {
  const where = `for inference input '${name}' for model '${model}'`;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let elements = 0;
  for (let at = 0; at < data.length; elements++) {
    const left = data.length - at;
    if (left < 4) {
      const lengths = `expecting 4 bytes but only ${left} bytes available`;
      throw invalid(
        `${prefix}incomplete string length indicator ${where}, ${lengths}. Please make sure the string length indicator is in one buffer.`,
      );
    }
    const size = view.getUint32(at, true);
    if (size > left - 4) {
      const lengths = `expecting string of length ${size} but only ${left - 4} bytes available`;
      throw invalid(`incomplete string data for inference input '${name}', ${lengths}`);
    }
    at += 4 + size;
  }
  if (elements < expected) {
    throw invalid(`${prefix}expected ${expected} string elements ${where}, got ${elements}`);
  }
  if (elements > expected) {
    throw invalid(
      `${prefix}unexpected number of string elements ${elements} ${where}, expecting ${expected}`,
    );
  }
}

function invalid(message: string): RepositoryError {
  return new RepositoryError('INVALID_ARGUMENT', message);
}
