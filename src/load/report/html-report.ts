import type { TraceSummary } from '../../trace/summary.ts';
import { latencyNames, latencyTitles } from '../statistics/metrics.ts';
import { type Comparison, comparisonRows } from './comparison.ts';
import { colourOf, escapeHtml, lineChart, type Series } from './line-chart.ts';
import type { ResultFile } from './result-json.ts';
import { runName } from './runs.ts';

const style = `
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1360px; padding: 0 1rem; color: #1a1a1a; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1rem }
svg { width: 100%; background: #fafafa; border: 1px solid #ddd; border-radius: 6px }
svg text { font: 11px system-ui, sans-serif; fill: #444 } svg text.title { font-size: 13px; font-weight: 600 }
.grid { stroke: #e4e4e4 }
table { border-collapse: collapse; margin: 0.5rem 0 } td, th { padding: 0.2rem 0.7rem; border-bottom: 1px solid #e4e4e4; text-align: right }
td:first-child, th:first-child { text-align: left }
.key { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 2px; margin-right: 0.4em }
.bar { display: inline-block; height: 0.8em; background: #0072b2 }
`;

/**
 * One HTML file with everything in it (no script, nothing fetched): the runs' numbers side by side, distributions of their latencies,
 * TTFT over time, throughput against concurrency where runs differ in it, and the step breakdown of a trace.
 */
export function htmlReport(runs: readonly ResultFile[], trace?: TraceSummary): string {
  const title = runs.length === 1 ? 'Load run' : `${runs.length} load runs`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>${title}</title><style>${style}</style></head><body>
<h1>${title}</h1>
${legend(runs)}
${comparisonTable(runs)}
<h2>Latencies</h2>
<div class="charts">
${charts(runs).join('\n')}
</div>
${trace ? traceSection(trace) : ''}
</body></html>
`;
}

function legend(runs: readonly ResultFile[]): string {
  const rows = runs.map((run, index) => {
    const { description, isInterrupted, clientCpu } = run.nereid;
    const { tool, plan } = description;
    const cpu = `client CPU ${((clientCpu.userMs + clientCpu.systemMs) / 1000).toFixed(1)} s`;
    const facts = [
      `${plan.target.kind} ${plan.target.url} ${plan.target.model}`,
      description.arrivals,
      description.workload,
      `seed ${plan.workload.seed}`,
      `${plan.warmupSessions} warm-up`,
      `${tool.name} ${tool.version}, Node ${tool.node}, ${tool.cores} × ${tool.cpu}, ${cpu}`,
      ...(isInterrupted ? ['ended early by Ctrl-C'] : []),
    ];
    return `<li><span class="key" style="background:${colourOf(index)}"></span><b>${escapeHtml(runName(run, index))}</b>: ${escapeHtml(facts.join('; '))}</li>`;
  });
  return `<ul>${rows.join('\n')}</ul>`;
}

function comparisonTable(runs: readonly ResultFile[]): string {
  const heads = runs.map((run, index) => `<th>${escapeHtml(runName(run, index))}</th>`);
  const rows = comparisonRows(runs).map(
    ({ title, values }: Comparison) =>
      `<tr><td>${escapeHtml(title)}</td>${values.map((value) => `<td>${escapeHtml(value)}</td>`).join('')}</tr>`,
  );
  return `<table><tr><th></th>${heads.join('')}</tr>${rows.join('\n')}</table>`;
}

function charts(runs: readonly ResultFile[]): string[] {
  const distributions = latencyNames
    .filter((name) => name !== 'ttst')
    .map((name) =>
      lineChart(
        runs.map((run, index) => ({
          name: runName(run, index),
          points: cumulative(latencyValues(run, name)),
        })),
        { title: `${latencyTitles[name]}: distribution`, xLabel: 'ms', yLabel: 'share of values, %' },
      ),
    );
  const overTime = lineChart(runs.map(ttftOverTime), {
    title: 'TTFT over time',
    xLabel: 'seconds from the start, when sent',
    yLabel: 'ms',
    isScatter: true,
  });
  return [...distributions, overTime, ...concurrencyChart(runs)];
}

function latencyValues(run: ResultFile, name: (typeof latencyNames)[number]): number[] {
  const values: number[] = [];
  for (const { outcome, outputMs, endMs, outputTokens } of run.nereid.requests) {
    if (outcome !== 'completed') continue;
    const ttft = outputMs[0] ?? endMs;
    if (name === 'ttft') values.push(ttft);
    else if (name === 'e2el') values.push(endMs);
    else if (name === 'tpot' && outputTokens > 1) values.push((endMs - ttft) / (outputTokens - 1));
    else if (name === 'normalized' && outputTokens > 0) values.push(endMs / outputTokens);
    else if (name === 'itl')
      for (let i = 1; i < outputMs.length; i++) values.push((outputMs[i] ?? 0) - (outputMs[i - 1] ?? 0));
  }
  return values;
}

function cumulative(values: number[]): Series['points'] {
  const ascending = Float64Array.from(values).sort();
  return Array.from(ascending, (value, index) => [value, ((index + 1) / ascending.length) * 100] as const);
}

function ttftOverTime(run: ResultFile, index: number): Series {
  const points = run.nereid.requests
    .filter(({ outcome }) => outcome === 'completed')
    .map(({ sentMs, outputMs, endMs }) => [sentMs / 1000, outputMs[0] ?? endMs] as const);
  return { name: runName(run, index), points };
}

/** Only where runs differ in concurrency: a sweep. */
function concurrencyChart(runs: readonly ResultFile[]): string[] {
  const points = runs
    .map((run) => [run.nereid.metrics.concurrentRequestsMax, run.nereid.metrics.outputThroughput] as const)
    .toSorted((a, b) => a[0] - b[0]);
  if (new Set(points.map(([concurrency]) => concurrency)).size < 2) return [];
  const labels = {
    title: 'Throughput against concurrency',
    xLabel: 'requests in flight, at most',
    yLabel: 'output tokens/s',
  };
  return [lineChart([{ name: 'runs', points }], labels)];
}

function traceSection({ phases, slowestSteps, steps, eventsPerStep, lost }: TraceSummary): string {
  const most = Math.max(...phases.map(({ selfMs }) => selfMs), 1e-9);
  const rows = phases.map(
    ({ name, count, totalMs, selfMs, meanUs, p99Us }) =>
      `<tr><td>${escapeHtml(name)}</td><td>${count}</td><td>${totalMs.toFixed(1)}</td><td>${selfMs.toFixed(1)}</td><td>${meanUs.toFixed(1)}</td><td>${p99Us.toFixed(1)}</td><td style="text-align:left"><span class="bar" style="width:${((selfMs / most) * 200).toFixed(0)}px"></span></td></tr>`,
  );
  const slow = slowestSteps.map(({ step, durationMs, phases: parts }) => {
    const text = Object.entries(parts)
      .sort((a, b) => b[1] - a[1])
      .map(([name, ms]) => `${name} ${ms.toFixed(2)}`);
    return `<tr><td>${step}</td><td>${durationMs.toFixed(2)}</td><td style="text-align:left">${escapeHtml(text.join(', '))}</td></tr>`;
  });
  return `<h2>Where the server's time went</h2>
<p>${steps} steps, ${eventsPerStep.toFixed(1)} events a step, ${lost} events lost.</p>
<table><tr><th>phase</th><th>count</th><th>total ms</th><th>self ms</th><th>mean µs</th><th>p99 µs</th><th></th></tr>${rows.join('\n')}</table>
<h2>Slowest steps</h2>
<table><tr><th>step</th><th>ms</th><th style="text-align:left">of it</th></tr>${slow.join('\n')}</table>`;
}
