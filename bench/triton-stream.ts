/**
 * npm run bench:triton-stream — how many tokens a second ModelStreamInfer streams from one front-end process: `nereid serve` with the null
 * device (engine process included), the client beside it, on two cores; and a bare grpc-js server that streams the same messages, in
 * interleaved runs. The null device makes tokens in no time, so everything that is measured is ours.
 *
 * Options: --runs 5 --streams 256 --tokens 400
 */
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median, ratios, summary } from './support/statistics.ts';
import type { StreamResult, StreamRun } from './triton/messages.ts';
import { startServer } from './triton/server-process.ts';

const bars = { tokensPerSecond: 50_000, ratio: 0.4 };

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '5' },
    streams: { type: 'string', default: '256' },
    tokens: { type: 'string', default: '400' },
  },
});
const runs = Number(values.runs);
const streams = Number(values.streams);
const tokens = Number(values.tokens);

/** Starts one of our modules; on larger machines all of them share the first two cores. */
function start(name: 'stream-client' | 'bare-server'): ChildProcess {
  const path = fileURLToPath(new URL(`./triton/${name}.ts`, import.meta.url));
  const pin = availableParallelism() > 2 && existsSync('/usr/bin/taskset');
  return fork(path, {
    execPath: pin ? '/usr/bin/taskset' : process.execPath,
    execArgv: [...(pin ? ['-c', '0,1', process.execPath] : []), '--import', import.meta.resolve('tsx')],
  });
}

function answerOf<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const onExit = (code: number | null) => reject(new Error(`a benchmark process ended with ${code}`));
    child.once('exit', onExit);
    child.once('message', (answer) => {
      child.off('exit', onExit);
      resolve(answer as T);
    });
  });
}

const client = start('stream-client');
async function measure(port: number, perStream = tokens): Promise<number> {
  client.send({ port, streams, tokens: perStream } satisfies StreamRun);
  const { seconds, messages } = await answerOf<StreamResult>(client);
  if (messages !== streams * perStream)
    throw new Error(`${messages} messages came, not ${streams * perStream}`);
  return messages / seconds;
}

const bare = start('bare-server');
const { port: barePort } = await answerOf<{ port: number }>(bare);
const nereid = await startServer([
  ...['nereid-16m', '--device', 'null', '--max-sequences', String(streams), '--max-batch-tokens', '4096'],
  ...['--context-length', String(Math.max(512, tokens + 64)), '--log-level', 'error'],
]);
const rates = { nereid: [] as number[], bare: [] as number[] };
// Once through for the compilers.
await measure(nereid.grpcPort, Math.ceil(tokens / 2));
await measure(barePort, Math.ceil(tokens / 2));
for (let run = 0; run < runs; run++) {
  rates.nereid.push(await measure(nereid.grpcPort));
  rates.bare.push(await measure(barePort));
}
client.disconnect();
bare.disconnect();
await nereid.stop();

const ratio = ratios(rates.nereid, rates.bare);
const verdict = (isMet: boolean) => (isMet ? 'met' : 'NOT met');
console.log(
  `${streams} streams of ${tokens} tokens over ModelStreamInfer, null device at 0 ms, median [least … most] of ${runs} interleaved runs,`,
);
console.log(`client, front end and engine process together on ${Math.min(2, availableParallelism())} cores`);
console.log(`  nereid        ${summary(rates.nereid, 0)} tokens/s`);
console.log(`  bare grpc-js  ${summary(rates.bare, 0)} tokens/s`);
console.log(`  ratio         ${summary(ratio, 2)}`);
const isFast = median(rates.nereid) >= bars.tokensPerSecond;
const isNear = median(ratio) >= bars.ratio;
console.log(
  `  bars          ${bars.tokensPerSecond} tokens/s: ${verdict(isFast)}; ${bars.ratio} x bare: ${verdict(isNear)}`,
);
