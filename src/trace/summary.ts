import { phaseNames, phases, requestPhases } from './phases.ts';
import type { TraceEvent, TraceFile } from './reader.ts';

/** Steps that are shown. */
export const slowestStepsMax = 10;

/** Durations of one phase that are kept for its percentiles; later ones replace random earlier ones (reservoir). */
const samplesMax = 100_000;

/** One phase over the whole trace. Milliseconds, but for the microseconds of one. */
export interface PhaseSummary {
  name: string;
  count: number;
  totalMs: number;
  /** Without the phases within it. */
  selfMs: number;
  meanUs: number;
  p50Us: number;
  p99Us: number;
  maxUs: number;
}

/** One step of an engine, with what it spent where. */
export interface StepSummary {
  step: number;
  processId: number;
  /** From the trace's first event. */
  atMs: number;
  durationMs: number;
  phases: Record<string, number>;
}

/** Where the time went. */
export interface TraceSummary {
  durationMs: number;
  events: number;
  lost: number;
  threads: number;
  steps: number;
  /** Share of a step's mean time that the tracer's own events cost, at the given cost an event. */
  eventsPerStep: number;
  phases: PhaseSummary[];
  slowestSteps: StepSummary[];
}

interface OpenPhase {
  phase: number;
  startNs: number;
  /** Time of the phases within it. */
  innerNs: number;
}

class PhaseTotal {
  count = 0;
  totalNs = 0;
  selfNs = 0;
  maxNs = 0;
  readonly samples: number[] = [];

  add(durationNs: number, innerNs: number): void {
    this.count++;
    this.totalNs += durationNs;
    this.selfNs += durationNs - innerNs;
    this.maxNs = Math.max(this.maxNs, durationNs);
    // A stride instead of random numbers: the same trace gives the same summary.
    if (this.samples.length < samplesMax) this.samples.push(durationNs);
    else this.samples[(this.count * 7919) % samplesMax] = durationNs;
  }
}

/** Adds up a trace. Phases without their other end (the trace began or ended in them) are left out. */
export function summarizeTrace(trace: TraceFile): TraceSummary {
  const totals = new Map<number, PhaseTotal>();
  const stacks = trace.threads.map((): OpenPhase[] => []);
  const openRequests = new Map<string, number>();
  const steps = new StepBook(trace);
  let firstNs: number | undefined;
  let lastNs = 0;
  let events = 0;
  for (const event of trace.events()) {
    firstNs ??= event.atNs;
    lastNs = event.atNs;
    events++;
    if (requestPhases.has(event.phase)) {
      addRequestPhase(event, openRequests, totals);
      continue;
    }
    const stack = stacks[event.thread] as OpenPhase[];
    if (!event.isEnd) stack.push({ phase: event.phase, startNs: event.atNs, innerNs: 0 });
    else close(event, stack, totals, steps);
  }
  const stepCount = totals.get(phases.step)?.count ?? 0;
  return {
    durationMs: (lastNs - (firstNs ?? lastNs)) / 1e6,
    events,
    lost: trace.threads.reduce((sum, { lost }) => sum + lost, 0),
    threads: trace.threads.length,
    steps: stepCount,
    eventsPerStep: stepCount > 0 ? steps.events / stepCount : 0,
    phases: [...totals]
      .sort((a, b) => b[1].totalNs - a[1].totalNs)
      .map(([phase, total]) => describe(phase, total)),
    slowestSteps: steps.slowest(firstNs ?? 0),
  };
}

function addRequestPhase(
  { phase, request, isEnd, atNs }: TraceEvent,
  open: Map<string, number>,
  totals: Map<number, PhaseTotal>,
): void {
  const key = `${phase}/${request}`;
  if (!isEnd) open.set(key, atNs);
  else {
    const startNs = open.get(key);
    if (startNs !== undefined) totalOf(totals, phase).add(atNs - startNs, 0);
    open.delete(key);
  }
}

function close(
  event: TraceEvent,
  stack: OpenPhase[],
  totals: Map<number, PhaseTotal>,
  steps: StepBook,
): void {
  // Lost events may have left phases open; they are dropped with what lies above them.
  const at = stack.findLastIndex(({ phase }) => phase === event.phase);
  if (at < 0) return;
  const { startNs, innerNs } = stack[at] as OpenPhase;
  stack.length = at;
  const durationNs = event.atNs - startNs;
  const outer = stack.at(-1);
  if (outer) outer.innerNs += durationNs;
  totalOf(totals, event.phase).add(durationNs, innerNs);
  steps.add(event, startNs, durationNs);
}

function totalOf(totals: Map<number, PhaseTotal>, phase: number): PhaseTotal {
  const total = totals.get(phase) ?? new PhaseTotal();
  totals.set(phase, total);
  return total;
}

function describe(phase: number, total: PhaseTotal): PhaseSummary {
  const ascending = total.samples.toSorted((a, b) => a - b);
  const at = (share: number): number => (ascending[Math.floor((ascending.length - 1) * share)] ?? 0) / 1e3;
  return {
    name: phaseNames[phase] ?? String(phase),
    count: total.count,
    totalMs: total.totalNs / 1e6,
    selfMs: total.selfNs / 1e6,
    meanUs: total.totalNs / total.count / 1e3,
    p50Us: at(0.5),
    p99Us: at(0.99),
    maxUs: total.maxNs / 1e3,
  };
}

/** Gathers what each step spent where, and keeps the slowest. */
class StepBook {
  events = 0;
  readonly #trace: TraceFile;
  readonly #current: Map<string, number>[];
  readonly #slowest: (StepSummary & { startNs: number })[] = [];

  constructor(trace: TraceFile) {
    this.#trace = trace;
    this.#current = trace.threads.map(() => new Map());
  }

  /** A phase of a step ended; the step itself ends last. */
  add(event: TraceEvent, startNs: number, durationNs: number): void {
    if (event.step === 0) return;
    this.events += 2;
    const current = this.#current[event.thread] as Map<string, number>;
    const name = phaseNames[event.phase] ?? '';
    if (event.phase !== phases.step) {
      current.set(name, (current.get(name) ?? 0) + durationNs / 1e6);
      return;
    }
    const least = this.#slowest.at(-1);
    if (this.#slowest.length < slowestStepsMax || durationNs / 1e6 > (least?.durationMs ?? 0)) {
      this.#slowest.push({
        step: event.step,
        processId: this.#trace.threads[event.thread]?.processId ?? 0,
        startNs,
        atMs: 0,
        durationMs: durationNs / 1e6,
        phases: Object.fromEntries(current),
      });
      this.#slowest.sort((a, b) => b.durationMs - a.durationMs).splice(slowestStepsMax);
    }
    current.clear();
  }

  slowest(firstNs: number): StepSummary[] {
    return this.#slowest.map(({ startNs, ...step }) => ({ ...step, atMs: (startNs - firstNs) / 1e6 }));
  }
}
