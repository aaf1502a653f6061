/**
 * npm run bench:briton -- [--streams 256] [--tokens 400] [--runs 5] [--channels 4]
 *
 * Tokens a second that Briton's service streams, null device at 0 ms, client included, all on the machine's cores; beside a bare grpc-js
 * server that writes the same messages, one a token, in interleaved runs. Bars: 50,000 tokens/s and 0.4 × the bare server.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BritonTarget } from '../src/load/target/briton.ts';
import { serveBench } from './support/serve.ts';
import { median, ratios, summary } from './support/statistics.ts';

const bars = { tokensPerSecond: 50_000, ratio: 0.4 };

const { values: flags } = parseArgs({
  options: {
    streams: { type: 'string', default: '256' },
    tokens: { type: 'string', default: '400' },
    runs: { type: 'string', default: '5' },
    channels: { type: 'string', default: '4' },
  },
});
const streams = Number(flags.streams);
const tokens = Number(flags.tokens);

/** Tokens a second of all streams at once. */
async function measure(target: BritonTarget): Promise<number> {
  const startMs = performance.now();
  const request = {
    text: '',
    tokens: Int32Array.of(1001, 1002, 1003),
    messages: [],
    outputTokensMax: tokens,
  };
  const one = (): Promise<number> =>
    new Promise((resolve, reject) => {
      let count = 0;
      target.send(request, {
        output: (_atMs, _text, ids = 0) => {
          count += ids;
        },
        end: () => resolve(count),
        fail: (_atMs, reason) => reject(new Error(reason)),
      });
    });
  const counts = await Promise.all(Array.from({ length: streams }, one));
  const sum = counts.reduce((total, count) => total + count, 0);
  if (sum !== streams * tokens) throw new Error(`${sum} tokens came, not ${streams * tokens}`);
  return (sum * 1000) / (performance.now() - startMs);
}

function open(url: string): BritonTarget {
  return new BritonTarget({
    kind: 'briton',
    url,
    model: '',
    headers: {},
    streams: true,
    sampling: { ignoreEos: false },
    extraBody: {},
    timeoutMs: 0,
    channels: Number(flags.channels),
  });
}

const bare = fork(fileURLToPath(new URL('./briton/bare-server.ts', import.meta.url)), [], {
  execArgv: ['--import', import.meta.resolve('tsx')],
});
const [{ port }] = (await once(bare, 'message')) as [{ port: number }];
const device = [
  '--device',
  'null',
  '--max-sequences',
  String(streams),
  '--max-batch-tokens',
  '2048',
  '--briton-port',
  '0',
];
const server = await serveBench(device);
const targets = { nereid: open(server.briton ?? ''), bare: open(`127.0.0.1:${port}`) };
const rates = { nereid: [] as number[], bare: [] as number[] };
for (const target of Object.values(targets)) await measure(target);
for (let run = 0; run < Number(flags.runs); run++) {
  rates.nereid.push(await measure(targets.nereid));
  rates.bare.push(await measure(targets.bare));
}
for (const target of Object.values(targets)) target.close();
bare.disconnect();
await server.stop();
const ratio = ratios(rates.nereid, rates.bare);
const verdict = (isMet: boolean): string => (isMet ? 'met' : 'NOT met');
console.log(
  `${streams} streams of ${tokens} tokens over ${flags.channels} channels, median [least … most] of ${flags.runs} interleaved runs, Node ${process.version}`,
);
console.log(
  `nereid        ${summary(rates.nereid, 0)} tokens/s (bar ${bars.tokensPerSecond}: ${verdict(median(rates.nereid) >= bars.tokensPerSecond)})`,
);
console.log(`bare grpc-js  ${summary(rates.bare, 0)} tokens/s`);
console.log(
  `ratio         ${summary(ratio, 2)} (bar ${bars.ratio}: ${verdict(median(ratio) >= bars.ratio)})`,
);
