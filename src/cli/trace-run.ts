import Table from 'cli-table3';
import { TraceFile } from '../trace/reader.ts';
import { type StepSummary, summarizeTrace, type TraceSummary } from '../trace/summary.ts';
import { TextFile } from '../trace/text-file.ts';
import { csvLines } from '../trace/to-csv.ts';
import { perfettoParts } from '../trace/to-perfetto.ts';

/** `nereid trace to-csv`. @throws TraceError */
export function convertToCsv(input: string, output: string): void {
  convert(input, output, csvLines);
}

/** `nereid trace to-perfetto`. @throws TraceError */
export function convertToPerfetto(input: string, output: string): void {
  convert(input, output, perfettoParts);
}

function convert(input: string, output: string, parts: (trace: TraceFile) => Iterable<string>): void {
  const trace = new TraceFile(input);
  const file = new TextFile(output);
  try {
    for (const part of parts(trace)) file.write(part);
    file.close();
  } catch (thrown) {
    // `nereid trace … | head`: the reader has seen enough.
    if ((thrown as NodeJS.ErrnoException).code === 'EPIPE') return;
    throw thrown;
  }
  const torn = trace.tornBytes > 0 ? `; ${trace.tornBytes} bytes were torn and left out` : '';
  if (output !== '-') process.stderr.write(`wrote ${trace.eventCount} events to ${output}${torn}\n`);
  trace.close();
}

/** `nereid trace summary`. @throws TraceError */
export function printSummary(input: string, asJson: boolean): void {
  const trace = new TraceFile(input);
  const summary = summarizeTrace(trace);
  trace.close();
  process.stdout.write(asJson ? `${JSON.stringify(summary, null, 2)}\n` : `${formatSummary(summary)}\n`);
}

function formatSummary(summary: TraceSummary): string {
  const { durationMs, events, lost, threads, steps, eventsPerStep } = summary;
  const losses = lost > 0 ? `, ${lost} lost` : '';
  const head = `${(durationMs / 1000).toFixed(2)} s, ${events} events of ${threads} threads${losses}; ${steps} steps, ${eventsPerStep.toFixed(1)} events a step`;
  return [head, phaseTable(summary), 'Slowest steps (milliseconds):', stepTable(summary.slowestSteps)].join(
    '\n',
  );
}

function phaseTable({ phases }: TraceSummary): string {
  const table = new Table({
    head: ['phase', 'count', 'total ms', 'self ms', 'mean µs', 'p50 µs', 'p99 µs', 'max µs'],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right', 'right', 'right'],
    style: { head: [], border: [] },
  });
  for (const { name, count, totalMs, selfMs, meanUs, p50Us, p99Us, maxUs } of phases)
    table.push([
      name,
      count,
      ...[totalMs, selfMs, meanUs, p50Us, p99Us, maxUs].map((value) => value.toFixed(1)),
    ]);
  return table.toString();
}

function stepTable(steps: readonly StepSummary[]): string {
  const table = new Table({
    head: ['step', 'process', 'at s', 'took', 'of it'],
    style: { head: [], border: [] },
    colWidths: [null, null, null, null, 80],
    wordWrap: true,
  });
  for (const { step, processId, atMs, durationMs, phases } of steps) {
    const parts = Object.entries(phases).sort((a, b) => b[1] - a[1]);
    const text = parts.map(([name, ms]) => `${name} ${ms.toFixed(2)}`).join(', ');
    table.push([step, processId, (atMs / 1000).toFixed(3), durationMs.toFixed(2), text]);
  }
  return table.toString();
}
