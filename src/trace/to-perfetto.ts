import { phaseNames, requestPhases } from './phases.ts';
import type { TraceEvent, TraceFile } from './reader.ts';

/**
 * The trace in the Trace Event Format, which ui.perfetto.dev and chrome://tracing open: a track a thread with its phases nested, and a
 * track a request with queue, prefill and decode. Times are microseconds from the first event.
 */
export function* perfettoParts(trace: TraceFile): Generator<string, void> {
  yield '{"displayTimeUnit":"ns","traceEvents":[\n';
  yield trace.threads
    .flatMap(metadata)
    .map((event) => JSON.stringify(event))
    .join(',\n');
  let startNs: number | undefined;
  for (const event of trace.events()) {
    startNs ??= event.atNs;
    yield `,\n${eventJson(event, (event.atNs - startNs) / 1000, trace)}`;
  }
  yield '\n]}\n';
}

function metadata({ processId: pid, threadId: tid, role }: TraceFile['threads'][number]): object[] {
  return [
    ...(tid === 0 ? [{ ph: 'M', name: 'process_name', pid, args: { name: `${role} ${pid}` } }] : []),
    { ph: 'M', name: 'thread_name', pid, tid, args: { name: tid === 0 ? role : `${role} ${tid}` } },
  ];
}

function eventJson(
  { request, phase, isEnd, step, thread }: TraceEvent,
  atUs: number,
  trace: TraceFile,
): string {
  const at = trace.threads[thread];
  const place = `"pid":${at?.processId ?? 0},"tid":${at?.threadId ?? 0},"ts":${atUs.toFixed(3)}`;
  const name = `"name":"${phaseNames[phase]}"`;
  // A request's phases overlap others': asynchronous events, one track an id.
  if (requestPhases.has(phase))
    return `{${name},"cat":"request","id":"${request}","ph":"${isEnd ? 'e' : 'b'}",${place}}`;
  if (isEnd) return `{${name},"ph":"E",${place}}`;
  const values = [...(step > 0 ? [`"step":${step}`] : []), ...(request >= 0 ? [`"request":${request}`] : [])];
  return `{${name},"ph":"B",${place},"args":{${values.join(',')}}}`;
}
