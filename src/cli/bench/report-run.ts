import Table from 'cli-table3';
import { comparisonRows } from '../../load/report/comparison.ts';
import { htmlReport } from '../../load/report/html-report.ts';
import { readResult, runName } from '../../load/report/runs.ts';
import { TraceFile } from '../../trace/reader.ts';
import { summarizeTrace, type TraceSummary } from '../../trace/summary.ts';
import { CliError } from '../errors.ts';
import { writeReport } from '../measure/write-report.ts';

/** Runs `nereid bench report`. @throws LoadError LOAD_RESULT_INVALID; TraceError */
export function runReport(
  paths: readonly string[],
  { html, trace }: { html?: string; trace?: string },
): void {
  if (trace !== undefined && html === undefined)
    throw new CliError('CLI_ARGUMENT_MISSING', '--trace is for the HTML report; give --html FILE too');
  const runs = paths.map(readResult);
  const table = new Table({ head: ['', ...runs.map(runName)], style: { head: [], border: [] } });
  for (const { title, values } of comparisonRows(runs)) table.push([title, ...values]);
  process.stdout.write(`${table.toString()}\n`);
  if (html !== undefined)
    writeReport(html, htmlReport(runs, trace === undefined ? undefined : readTrace(trace)));
}

function readTrace(path: string): TraceSummary {
  const trace = new TraceFile(path);
  const summary = summarizeTrace(trace);
  trace.close();
  return summary;
}
