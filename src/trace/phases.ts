/**
 * What the tracer knows of: parts of an engine's step, of a front end's work, and of a request's life. The keys are for the code, the
 * names for trace files and their readers (`NAME_start`, `NAME_end`); a name's place is its number in the file, so new ones go to the end.
 */
export const phaseNames = [
  /** One step of an engine's loop, everything below included. */
  'STEP',
  /** Which waiting sequences may start. */
  'ADMISSION',
  /** Which rows the step computes, and their batch. */
  'SCHEDULE',
  /** Recording and laying out a graph for a batch shape that is new. */
  'RECORD_GRAPH',
  /** The device at work, until its results are there. */
  'COMPUTE',
  /** From the step's results to tokens, for all rows. */
  'SAMPLE',
  /** Changes to one row's logits: bans, bias, penalties. */
  'LOGITS_POST_PROCESSOR',
  /** The part of it that rules tokens out. */
  'APPLY_MASK',
  /** Handing the step's events to the front ends. */
  'EMIT',
  /** Text to ids, in a front end or its worker. */
  'TOKENIZE',
  /** Ids to text and the search for stop strings, for one event of a request. */
  'DETOKENIZE',
  /** Writing to a client's connection. */
  'SEND_RESPONSE',
  /** A request's life in the engine: waiting; computing its prompt, up to the first token; making the further tokens. */
  'QUEUE',
  'PREFILL',
  'DECODE',
  /** A request's life in a front end: from its arrival there to its last token. */
  'REQUEST',
] as const;

export type PhaseName = (typeof phaseNames)[number];

/** A phase's number: its place in {@link phaseNames}. */
export type Phase = number;

function numberOf(name: PhaseName): Phase {
  return phaseNames.indexOf(name);
}

/** Phases by the name that the code uses. */
export const phases = {
  step: numberOf('STEP'),
  admission: numberOf('ADMISSION'),
  schedule: numberOf('SCHEDULE'),
  recordGraph: numberOf('RECORD_GRAPH'),
  compute: numberOf('COMPUTE'),
  sample: numberOf('SAMPLE'),
  logitsPostProcessor: numberOf('LOGITS_POST_PROCESSOR'),
  applyMask: numberOf('APPLY_MASK'),
  emit: numberOf('EMIT'),
  tokenize: numberOf('TOKENIZE'),
  detokenize: numberOf('DETOKENIZE'),
  sendResponse: numberOf('SEND_RESPONSE'),
  queue: numberOf('QUEUE'),
  prefill: numberOf('PREFILL'),
  decode: numberOf('DECODE'),
  request: numberOf('REQUEST'),
} as const;

/** Phases of a request's life: they overlap those of other requests, so they nest in no thread. */
export const requestPhases: ReadonlySet<Phase> = new Set([
  phases.queue,
  phases.prefill,
  phases.decode,
  phases.request,
]);

/** Where code says what it is doing. A phase of a thread begins and ends in the same turn or step; requests' phases may not. */
export interface PhaseRecorder {
  /**
   * @param request id of the request concerned, if it is one
   * @param agoNs how long ago it began, where that is known only now (a request has no id yet when it arrives)
   */
  begin(phase: Phase, request?: number, agoNs?: number): void;
  end(phase: Phase, request?: number): void;
  /** What is recorded from now on belongs to this step (32 bits of it are kept). */
  step(number: number): void;
}
