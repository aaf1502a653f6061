import { assert } from '../../base/errors.ts';
import { RepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import type { Inference, InferResponse, Model, Parameters } from '../model.ts';
import { phasesOf } from '../statistics.ts';
import { renamed, type Tensor } from '../tensor.ts';
import type { WiredStep } from './wiring.ts';

/** The tensors along one path of responses: a decoupled step's every response begins a new one. */
interface Flow {
  tensors: Map<string, Tensor>;
  /** Where it began; what is not among its own tensors is looked for there. */
  origin: Flow | undefined;
  /** By step: not begun, running, done. */
  states: Uint8Array;
  running: number;
  /** Every step is done. */
  isComplete: boolean;
}

const waiting = 0;
const running = 1;
const done = 2;

/** What all runs of one ensemble share. */
export interface EnsembleParts {
  steps: readonly WiredStep[];
  outputs: readonly string[];
  model(name: string, version: string): Model;
  /** In front of a step's error. */
  errorPrefix: string;
  /** What is done to the outputs of each response before it leaves, in order. */
  finish?: (outputs: Tensor[]) => Tensor[];
}

/** One request through the steps of an ensemble. Steps run as soon as their tensors are there; responses leave in order. */
export class EnsembleRun {
  readonly #execution: Execution;
  readonly #parts: EnsembleParts;
  readonly #inferences = new Set<Inference>();
  readonly #wanted: (readonly string[])[] = [];
  /** Flows whose response has not left, in order. */
  readonly #flows: Flow[] = [];
  /** Inner requests that have not ended. */
  #open = 0;
  #isOver = false;

  constructor(execution: Execution, parts: EnsembleParts) {
    this.#execution = execution;
    this.#parts = parts;
    execution.phases = { queue: 0, computeInput: 0, computeInfer: 0, computeOutput: 0 };
    execution.onCancel = () => this.#stop();
  }

  start(): void {
    this.#execution.begin();
    const tensors = new Map(this.#execution.request.inputs.map((tensor) => [tensor.name, tensor]));
    const flow: Flow = {
      tensors,
      origin: undefined,
      states: new Uint8Array(this.#parts.steps.length),
      running: 0,
      isComplete: false,
    };
    this.#flows.push(flow);
    this.#advance(flow);
  }

  /** Starts what can start; decoupled steps last, and alone, since what follows happens once for each of their responses. */
  #advance(flow: Flow): void {
    const { steps } = this.#parts;
    let last: number | undefined;
    for (let index = 0; index < steps.length && !this.#isOver; index++) {
      const step = steps[index] as WiredStep;
      if (flow.states[index] !== waiting || !step.after.every((other) => flow.states[other] === done))
        continue;
      if (step.isDecoupled) last ??= index;
      else this.#begin(flow, index);
    }
    if (this.#isOver || flow.isComplete) return;
    if (flow.states.every((state) => state === done)) {
      flow.isComplete = true;
      this.#emit();
    } else if (flow.running === 0 && last !== undefined) this.#begin(flow, last);
  }

  #begin(flow: Flow, index: number): void {
    const step = this.#parts.steps[index] as WiredStep;
    flow.states[index] = running;
    flow.running++;
    this.#open++;
    const { id, parameters, priority, timeoutUs, onTokens } = this.#execution.request;
    const inputs = step.inputs.flatMap(({ inner, tensor }) => {
      const value = tensorIn(flow, tensor);
      return value ? [renamed(value, inner)] : [];
    });
    const outputs = this.#wantedOf(index, step);
    let inference: Inference | undefined;
    let hasEnded = false;
    try {
      inference = this.#parts.model(step.modelName, step.version).infer(
        { id, inputs, outputs, parameters, priority, timeoutUs, onTokens },
        {
          respond: (response, isFinal) => {
            if (isFinal) {
              hasEnded = true;
              if (inference) this.#inferences.delete(inference);
            }
            this.#responded(flow, index, response, isFinal);
          },
          ended: (times) => this.#addPhases(phasesOf(times)),
        },
      );
    } catch (thrown) {
      this.#fail(thrown);
      return;
    }
    if (this.#isOver) inference.cancel();
    else if (!hasEnded) this.#inferences.add(inference);
  }

  #responded(flow: Flow, index: number, response: InferResponse | undefined, isFinal: boolean): void {
    if (this.#isOver) return;
    if (isFinal) this.#open--;
    if (response?.error) {
      this.#fail(response.error);
      return;
    }
    const step = this.#parts.steps[index] as WiredStep;
    if (!step.isDecoupled) {
      assert(isFinal, `a response of ${step.modelName} that is not the last`);
      flow.states[index] = done;
      flow.running--;
      addTensors(flow.tensors, step, response?.outputs ?? []);
      this.#advance(flow);
      return;
    }
    const at = this.#flows.indexOf(flow);
    const next = response && nextFlow(flow, index, step, response.outputs);
    // A response's flow goes in front of the one that it came from, which stands for the responses to come.
    this.#flows.splice(at, isFinal ? 1 : 0, ...(next ? [next] : []));
    if (isFinal) flow.isComplete = true;
    if (next) this.#advance(next);
    else this.#emit();
  }

  #emit(): void {
    for (;;) {
      const [first] = this.#flows;
      if (!first) break;
      if (!first.isComplete) return;
      this.#flows.shift();
      const isFinal = this.#flows.length === 0 && this.#open === 0;
      const found = this.#parts.outputs.flatMap((name) => tensorIn(first, name) ?? []);
      const outputs = this.#parts.finish?.(found) ?? found;
      if (isFinal) this.#isOver = true;
      this.#execution.respond({ outputs, parameters: this.#parametersOf(outputs) }, isFinal);
      if (isFinal) return;
    }
    if (this.#open > 0 || this.#isOver) return;
    this.#isOver = true;
    this.#execution.respond(undefined, true);
  }

  /** Triton's ensembles answer with the sequence that they were asked in, unless they answer nothing. */
  #parametersOf(outputs: readonly Tensor[]): Parameters | undefined {
    if (!outputs.some(({ data }) => data.length > 0)) return undefined;
    const { sequenceId = 0, sequenceStart = false, sequenceEnd = false } = this.#execution.request;
    return { sequence_id: sequenceId, sequence_start: sequenceStart, sequence_end: sequenceEnd };
  }

  /** The inner outputs of a step that somebody reads, for this request. */
  #wantedOf(index: number, step: WiredStep): readonly string[] {
    const known = this.#wanted[index];
    if (known) return known;
    const { outputs } = this.#parts;
    const wanted = step.outputs
      .filter(({ inner, tensor }) => {
        const isShown = outputs.includes(tensor) && this.#execution.wants(tensor);
        return step.usedBySteps.has(inner) || isShown;
      })
      .map(({ inner }) => inner);
    this.#wanted[index] = wanted;
    return wanted;
  }

  #addPhases(added: ReturnType<typeof phasesOf>): void {
    const { phases } = this.#execution;
    if (!phases) return;
    phases.queue += added.queue;
    phases.computeInput += added.computeInput;
    phases.computeInfer += added.computeInfer;
    phases.computeOutput += added.computeOutput;
  }

  #fail(thrown: unknown): void {
    if (this.#isOver) return;
    this.#stop();
    const status = thrown instanceof RepositoryError ? thrown.status : 'INTERNAL';
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    this.#execution.fail(
      new RepositoryError(status, `${this.#parts.errorPrefix}${message}`, { cause: thrown }),
    );
  }

  #stop(): void {
    this.#isOver = true;
    for (const inference of this.#inferences) inference.cancel();
    this.#inferences.clear();
    this.#flows.length = 0;
  }
}

function tensorIn(flow: Flow, name: string): Tensor | undefined {
  for (let from: Flow | undefined = flow; from; from = from.origin) {
    const tensor = from.tensors.get(name);
    if (tensor) return tensor;
  }
  return undefined;
}

function nextFlow(flow: Flow, index: number, step: WiredStep, outputs: readonly Tensor[]): Flow {
  const states = flow.states.slice();
  states[index] = done;
  const tensors = new Map<string, Tensor>();
  addTensors(tensors, step, outputs);
  return { tensors, origin: flow, states, running: 0, isComplete: false };
}

function addTensors(tensors: Map<string, Tensor>, step: WiredStep, outputs: readonly Tensor[]): void {
  for (const output of outputs) {
    const mapped = step.outputs.find(({ inner }) => inner === output.name);
    if (mapped) tensors.set(mapped.tensor, renamed(output, mapped.tensor));
  }
}
