// make test_server_client_flow: starts `nereid serve` with Briton's port, sends one request through `nereid load`, prints the answer, stops the
// server. Exit status 0 when the answer came. The first argument names the model; default: the embedded one.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('../bin/nereid', import.meta.url));
const model = process.argv[2] ?? 'nereid-16m';
const startTimeoutMs = 10 * 60_000;

const flags = ['--http-port', '0', '--briton-port', '0', '--log-level', 'warn'];
const server = spawn(process.execPath, [program, 'serve', model, ...flags], {
  stdio: ['ignore', 'inherit', 'pipe'],
});
let log = '';
server.stderr.on('data', (bytes) => {
  log += bytes;
  process.stderr.write(bytes);
});
const address = await new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error('the server did not start')), startTimeoutMs);
  server.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
  server.stderr.on('data', () => {
    const found = /on (\S+:\d+) \(Briton gRPC\)[\s\S]*on http:/.exec(log)?.[1];
    if (!found) return;
    clearTimeout(timer);
    resolve(found);
  });
});
const prompt = ['--prompt', 'A lighthouse is', '--output-tokens', '64'];
const single = ['--requests', '1', '--concurrency', '1', '--warmup', '0', '--keep-text', '--output', '-'];
const client = spawnSync(
  process.execPath,
  [program, 'load', '--target', 'briton', '--url', address, ...prompt, ...single],
  { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
);
server.removeAllListeners('exit');
server.kill('SIGINT');
await once(server, 'exit');
if (client.status !== 0) process.exit(1);
const [request] = JSON.parse(client.stdout).nereid.requests;
console.log(request.text);
console.log(`server-client flow: ${request.outputTokens} tokens, ${request.outcome}`);
process.exit(request.outcome === 'completed' ? 0 : 1);
