import { phaseNames } from './phases.ts';
import type { TraceFile } from './reader.ts';

/** Threads of one process are numbered from its id times this on. */
const threadsPerProcess = 65_536;

/**
 * The trace as Briton's `trace_to_csv` writes it: a header and `StepId,Timestamp,RequestId,ThreadId`, one event a line, by time.
 * StepId is the phase with `_start` or `_end`; Timestamp Unix nanoseconds; RequestId empty where no request is concerned.
 */
export function* csvLines(trace: TraceFile): Generator<string, void> {
  yield 'StepId,Timestamp,RequestId,ThreadId\n';
  const threads = trace.threads.map(({ processId, threadId }) => processId * threadsPerProcess + threadId);
  for (const { atNs, request, phase, isEnd, thread } of trace.events()) {
    const name = `${phaseNames[phase]}_${isEnd ? 'end' : 'start'}`;
    const timestamp = trace.epochNs + BigInt(Math.round(atNs));
    yield `${name},${timestamp},${request < 0 ? '' : request},${threads[thread]}\n`;
  }
}
