/**
 * npm run bench:streams — one front end with many streams over a device that makes a step every 5 ms: how near it comes to streams ÷ step, with
 * engine process, front end and client together on two cores. Bytes are discarded at the client's socket, then read as a client of the API
 * does, which shows what that costs on top. CPU time a token says what a run on a busy machine cannot.
 *
 * Options: --runs 3 --streams 512 --tokens 600 --step-ms 5 --intervals 1,4
 */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { packageRoot } from '../src/base/entry.ts';
import { openTokenizer } from '../src/tokenizer/open.ts';
import type { ClientResult, ClientRun, CpuAnswer, ServerReady, ServerSetup } from './frontend/messages.ts';
import { ask, startProcess } from './support/processes.ts';
import { median, summary } from './support/statistics.ts';

const bar = { share: 0.9 };

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    streams: { type: 'string', default: '512' },
    tokens: { type: 'string', default: '600' },
    'step-ms': { type: 'string', default: '5' },
    intervals: { type: 'string', default: '1,4' },
  },
});
const runs = Number(values.runs);
const streams = Number(values.streams);
const tokens = Number(values.tokens);
const stepMs = Number(values['step-ms']);
const ideal = (streams * 1000) / stepMs;

/** One run: of the ideal rate, and µs of CPU time a token. */
interface Run {
  share: number;
  frontEnd: number;
  engine: number;
  client: number;
  readsPerStep: number;
}

async function section(streamInterval: number, vocabularySize: number): Promise<void> {
  const [client, server] = [startProcess('client'), startProcess('server')];
  const contextLength = tokens + 256;
  const setup = { tokenizerFolder, vocabularySize, contextLength, streams, stepMs, streamInterval };
  const { port } = await ask<ServerReady>(server, { ...setup, kind: 'nereid' } satisfies ServerSetup);
  const measure = async (reading: ClientRun['reading'], perStream = tokens): Promise<Run> => {
    const before = await ask<CpuAnswer>(server, { kind: 'cpu' });
    const run: ClientRun = { port, streams, tokens: perStream, reading };
    const { seconds, reads, cpuSeconds } = await ask<ClientResult>(client, run);
    const after = await ask<CpuAnswer>(server, { kind: 'cpu' });
    const made = streams * perStream;
    const perToken = (cpu: number): number => (cpu * 1e6) / made;
    return {
      share: made / seconds / ideal,
      frontEnd: perToken(after.frontEnd - before.frontEnd),
      engine: perToken(after.engine - before.engine),
      client: perToken(cpuSeconds),
      readsPerStep: reads / made,
    };
  };
  // Once through for the compilers.
  await measure('discard', Math.ceil(tokens / 2));
  for (const reading of ['discard', 'parse'] as const) {
    const all: Run[] = [];
    for (let run = 0; run < runs; run++) all.push(await measure(reading));
    print(streamInterval, reading, all);
  }
  for (const child of [client, server]) child.disconnect();
}

function print(streamInterval: number, reading: string, all: readonly Run[]): void {
  const of = (field: keyof Run): string =>
    summary(
      all.map((run) => run[field]),
      2,
    );
  console.log(
    `  interval ${streamInterval}, client that ${reading}s: ${of('share')} of ${ideal.toFixed(0)} tokens/s`,
  );
  console.log(
    `    us of CPU a token: front end ${of('frontEnd')}, engine ${of('engine')}, client ${of('client')}; ` +
      `${of('readsPerStep')} reads a stream and step`,
  );
  if (streamInterval > 1 || reading !== 'discard') return;
  const isMet = median(all.map((run) => run.share)) >= bar.share;
  console.log(`    bar ${bar.share}: ${isMet ? 'met' : 'NOT met'}`);
}

const tokenizerFolder = join(packageRoot, 'models', 'nereid-16m');
const { vocabularySize } = await openTokenizer(tokenizerFolder);
console.log(
  `${streams} streams of ${tokens} tokens, null device at ${stepMs} ms a step, median [least … most] of ${runs} runs, ` +
    `${Math.min(2, availableParallelism())} cores, Node ${process.version}`,
);
for (const interval of values.intervals.split(',')) await section(Number(interval), vocabularySize);
