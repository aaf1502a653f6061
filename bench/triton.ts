/**
 * npm run bench:triton — the same models on `nereid serve --model-repository` (backend `node`) and on a genuine tritonserver 2.51.0 (its
 * Python backend; PyPI's wheel nvidia-pytriton, installed under `.venv/triton`), asked by the same client in interleaved runs: HTTP infer
 * with JSON, gRPC infer, gRPC streams of a unary model, decoupled gRPC streams. Where the wheel is out of reach only ours is measured.
 *
 * Options: --runs 5 --requests 6000 --concurrency 16 --only http|grpc|stream|decoupled
 */
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { genuineTriton } from '../test/foreign/genuine-triton.ts';
import { cpuTimesMs } from './support/cpu-time.ts';
import { median, ratios, summary } from './support/statistics.ts';
import type { InferResult, InferRun, InferWork } from './triton/messages.ts';
import { startServer } from './triton/server-process.ts';
import { writeTwinModels } from './triton/twin-models.ts';

const works: readonly { work: InferWork; title: string; bar: number; share: number }[] = [
  { work: 'http', title: 'HTTP infer, JSON (requests/s)', bar: 1, share: 1 },
  { work: 'grpc', title: 'gRPC infer (requests/s)', bar: 1, share: 1 },
  { work: 'stream', title: 'gRPC stream of a unary model (requests/s)', bar: 1, share: 1 },
  { work: 'decoupled', title: 'gRPC stream of a decoupled model (responses/s)', bar: 3, share: 1 / 20 },
];

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '5' },
    requests: { type: 'string', default: '6000' },
    concurrency: { type: 'string', default: '16' },
    only: { type: 'string' },
  },
});
const runs = Number(values.runs);
const concurrency = Number(values.concurrency);

interface Target {
  httpPort: number;
  grpcPort: number;
  processId: number;
  stop(): Promise<void>;
}

const pin = availableParallelism() > 2 && existsSync('/usr/bin/taskset');

function startClient(): ChildProcess {
  return fork(fileURLToPath(new URL('./triton/infer-client.ts', import.meta.url)), {
    execPath: pin ? '/usr/bin/taskset' : process.execPath,
    execArgv: [...(pin ? ['-c', '0,1', process.execPath] : []), '--import', import.meta.resolve('tsx')],
  });
}

const client = startClient();
function ask(run: InferRun): Promise<InferResult> {
  return new Promise((resolve, reject) => {
    const onExit = (code: number | null) => reject(new Error(`the client process ended with ${code}`));
    client.once('exit', onExit);
    client.once('message', (answer) => {
      client.off('exit', onExit);
      resolve(answer as InferResult);
    });
    client.send(run);
  });
}

/** Answers a second, and CPU microseconds of the server's processes an answer. */
async function measure(target: Target, work: InferWork, share: number) {
  const count = Math.ceil(Number(values.requests) * share);
  const port = work === 'http' ? target.httpPort : target.grpcPort;
  const cpu = (): number => [...cpuTimesMs(target.processId).values()].reduce((sum, ms) => sum + ms, 0);
  const before = cpu();
  const { seconds, answers } = await ask({ work, port, count, concurrency });
  return { rate: answers / seconds, cpuUs: ((cpu() - before) * 1000) / answers };
}

const folders = { node: writeTwinModels('node'), python: writeTwinModels('python') };
const ours: Target = await startServer(['--model-repository', folders.node, '--log-level', 'error']).then(
  (server) => ({ ...server, processId: server.child.pid ?? 0 }),
);
const genuine = await genuineTriton();
let theirs: Target | undefined;
if ('skip' in genuine) console.log(`no tritonserver to compare with: ${genuine.skip}`);
else {
  const server = await genuine.start(folders.python, [], pin ? ['/usr/bin/taskset', '-c', '0,1'] : []);
  theirs = { ...server, processId: server.child.pid ?? 0 };
}

console.log(
  `${concurrency} at a time, median [least … most] of ${runs} interleaved runs on ${Math.min(2, availableParallelism())} cores`,
);
for (const { work, title, bar, share } of works) {
  if (values.only && values.only !== work) continue;
  const rates = { ours: [] as number[], theirs: [] as number[] };
  const cpu = { ours: [] as number[], theirs: [] as number[] };
  // Once through for the compilers.
  await measure(ours, work, share);
  if (theirs) await measure(theirs, work, share);
  for (let run = 0; run < runs; run++) {
    const one = await measure(ours, work, share);
    rates.ours.push(one.rate);
    cpu.ours.push(one.cpuUs);
    if (!theirs) continue;
    const other = await measure(theirs, work, share);
    rates.theirs.push(other.rate);
    cpu.theirs.push(other.cpuUs);
  }
  console.log(
    `${title}\n  nereid        ${summary(rates.ours, 0)}, ${median(cpu.ours).toFixed(0)} µs of CPU each`,
  );
  if (!theirs) continue;
  const ratio = ratios(rates.ours, rates.theirs);
  console.log(`  tritonserver  ${summary(rates.theirs, 0)}, ${median(cpu.theirs).toFixed(0)} µs of CPU each`);
  console.log(
    `  ratio         ${summary(ratio, 2)}; bar ${bar}: ${median(ratio) >= bar ? 'met' : 'NOT met'}`,
  );
}
client.disconnect();
await ours.stop();
await theirs?.stop();
for (const folder of Object.values(folders)) rmSync(folder, { recursive: true });
