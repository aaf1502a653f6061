/**
 * npm run bench:frontend — how many tokens a second one front-end process streams over SSE, client and engine process included, on two
 * cores; beside a bare fastify server that writes the same events, in interleaved runs. The null device makes tokens in no time, so
 * everything that is measured is ours. At 0 ms a step the engine runs ahead and several steps' events leave in one write; at
 * 1 ms a step every step is sent by itself, as with a real engine (64 streams then make 64,000 tokens a second at most).
 *
 * Options: --runs 5 --streams 64 --tokens 2000 --step-ms 0,1
 */
import type { ChildProcess } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { packageRoot } from '../src/base/entry.ts';
import { openTokenizer } from '../src/tokenizer/open.ts';
import type { ClientResult, ClientRun, ServerReady, ServerSetup } from './frontend/messages.ts';
import { ask, startProcess } from './support/processes.ts';
import { median, ratios, summary } from './support/statistics.ts';

const bars = { tokensPerSecond: 40_000, ratio: 0.5 };

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '5' },
    streams: { type: 'string', default: '64' },
    tokens: { type: 'string', default: '2000' },
    'step-ms': { type: 'string', default: '0,1' },
  },
});
const runs = Number(values.runs);
const streams = Number(values.streams);
const tokens = Number(values.tokens);

interface Run {
  tokensPerSecond: number;
  eventsPerRead: number;
}

async function measure(client: ChildProcess, port: number, perStream = tokens): Promise<Run> {
  const run: ClientRun = { port, streams, tokens: perStream };
  const { events, seconds, reads } = await ask<ClientResult>(client, run);
  return { tokensPerSecond: events / seconds, eventsPerRead: events / reads };
}

/** One device speed: both servers, interleaved; prints and returns nothing. */
async function section(stepMs: number, vocabularySize: number): Promise<void> {
  const setup = { tokenizerFolder, vocabularySize, contextLength: tokens + 256, streams, stepMs };
  const client = startProcess('client');
  const servers = { nereid: startProcess('server'), bare: startProcess('server') };
  const nereid = await ask<ServerReady>(servers.nereid, { ...setup, kind: 'nereid' } satisfies ServerSetup);
  const bare = await ask<ServerReady>(servers.bare, { ...setup, kind: 'bare' } satisfies ServerSetup);
  // Once through for the compilers.
  await measure(client, nereid.port, Math.ceil(tokens / 2));
  await measure(client, bare.port, Math.ceil(tokens / 2));
  const results: Results = { nereid: [], bare: [] };
  for (let run = 0; run < runs; run++) {
    results.nereid.push(await measure(client, nereid.port));
    results.bare.push(await measure(client, bare.port));
  }
  for (const child of [client, servers.nereid, servers.bare]) child.disconnect();
  print(stepMs, results);
}

interface Results {
  nereid: Run[];
  bare: Run[];
}

function print(stepMs: number, results: Results): void {
  const rate = (which: Run[]) => which.map((run) => run.tokensPerSecond);
  const gathered = (which: Run[]) => median(which.map((run) => run.eventsPerRead)).toFixed(2);
  const ratio = ratios(rate(results.nereid), rate(results.bare));
  const most = stepMs > 0 ? ` (at most ${(streams * 1000) / stepMs} tokens/s)` : '';
  console.log(`null device at ${stepMs} ms a step${most}`);
  console.log(
    `  nereid        ${summary(rate(results.nereid), 0)} tokens/s, ${gathered(results.nereid)} events a read`,
  );
  console.log(
    `  bare fastify  ${summary(rate(results.bare), 0)} tokens/s, ${gathered(results.bare)} events a read`,
  );
  console.log(`  ratio         ${summary(ratio, 2)}`);
  if (stepMs > 0) return;
  const verdict = (isMet: boolean) => (isMet ? 'met' : 'NOT met');
  const isFast = median(rate(results.nereid)) >= bars.tokensPerSecond;
  const isNear = median(ratio) >= bars.ratio;
  console.log(
    `  bars          ${bars.tokensPerSecond} tokens/s: ${verdict(isFast)}; ${bars.ratio} x bare: ${verdict(isNear)}`,
  );
}

const tokenizerFolder = join(packageRoot, 'models', 'nereid-16m');
const { vocabularySize } = await openTokenizer(tokenizerFolder);
console.log(
  `${streams} SSE streams of ${tokens} tokens, median [least … most] of ${runs} interleaved runs, Node ${process.version};`,
);
console.log(`client, front end and engine process together on ${Math.min(2, availableParallelism())} cores`);
for (const stepMs of values['step-ms'].split(',')) await section(Number(stepMs), vocabularySize);
