import { existsSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Phase, PhaseRecorder } from './phases.ts';
import { Tracer } from './tracer.ts';

/** The environment variables that name the trace file, Nereid's own first. */
const variables = ['NEREID_TRACER_OUT', 'BRITON_TRACER_OUT'] as const;

/** The trace file that the environment asks for: a folder gets `HOST.trace.bin` in it. */
export function traceFileOf(environment: NodeJS.ProcessEnv): string | undefined {
  const asked = variables.map((name) => environment[name]).find((value) => value);
  if (asked === undefined) return undefined;
  return existsSync(asked) && statSync(asked).isDirectory() ? join(asked, `${hostname()}.trace.bin`) : asked;
}

/** The tracer of this thread: does nothing until it is started. One a thread, since what it records is what the thread does. */
class ThreadTracer implements PhaseRecorder {
  #tracer: Tracer | undefined;

  /**
   * Starts recording if the environment asks for it.
   * @param isFirst begin a new file: the process that starts the others does
   * @throws TraceError TRACE_FILE_UNWRITABLE
   */
  start(role: string, isFirst: boolean): void {
    const path = traceFileOf(process.env);
    if (path === undefined || this.#tracer) return;
    const tracer = new Tracer({ path, role, isFirst });
    this.#tracer = tracer;
    process.on('exit', () => tracer.close());
  }

  begin(phase: Phase, request?: number, agoNs?: number): void {
    this.#tracer?.begin(phase, request, agoNs);
  }

  end(phase: Phase, request?: number): void {
    this.#tracer?.end(phase, request);
  }

  step(number: number): void {
    this.#tracer?.step(number);
  }
}

/** See {@link ThreadTracer}. */
export const threadTracer = new ThreadTracer();
