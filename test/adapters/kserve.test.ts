/** The original client's LoRA flow against a real model: weights with the first request, the task id with the next ones, both over gRPC. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { temporaryFolder } from '../support/checkpoint-files.ts';
import { runCli } from '../support/run-cli.ts';
import { type ServeProcess, startServe } from '../support/serve.ts';
import { peftMatrices, writeNpyAdapter } from './npy-adapter.ts';

let server: ServeProcess;

/** The client's commands in docs/lora.md, without the program. */
const documented = [
  ...readFileSync(join(packageRoot, 'docs/lora.md'), 'utf8').matchAll(/^nereid (client .*)$/gm),
].map(([, command = '']) => command);
assert.equal(documented.length, 2);

before(async () => {
  server = await startServe('adapters', ['--grpc-port', '0', '--metrics-port', '0']);
});

after(() => server?.stop());

const chat = '<|im_start|>user\nWhat is a robot?<|im_end|>\n<|im_start|>assistant\n';

function address(): string {
  const port = /gRPC.*?:(\d+)/i.exec(server.log())?.[1];
  assert.ok(port, server.log());
  return `localhost:${port}`;
}

async function ask(...flags: string[]): Promise<{ code: number | null; out: string }> {
  const tokenizer = join(packageRoot, 'models/nereid-16m');
  const base = ['client', 'inflight', '-u', address(), '--tokenizer-dir', tokenizer];
  const { code, stdout, stderr } = await runCli([
    ...base,
    ...['--text', chat, '--request-output-len', '6', '--exclude-input-in-output', ...flags],
  ]);
  return { code, out: stdout + stderr };
}

test('nereid client inflight --lora-path --lora-task-id', async (t) => {
  const capitals = peftMatrices(join(packageRoot, 'models/nereid-16m-lora-capitals'));
  const folder = writeNpyAdapter(join(temporaryFolder(t), 'capitals'), capitals, () => {}, true);
  const missed = await ask('--lora-task-id', '3');
  assert.match(missed.out, /LoRA task 3 not found in cache\. Please send LoRA weights with request/);
  assert.equal(missed.code, 1);
  assert.match((await ask('--lora-path', folder)).out, /lora_task_id must be set for LoRA inference/);
  const first = await ask('--lora-path', folder, '--lora-task-id', '3');
  assert.match(first.out, /Output beam 0: ROBOT/);
  assert.match((await ask('--lora-task-id', '3')).out, /Output beam 0: ROBOT/);
  assert.match((await ask()).out, /Output beam 0: robot/);
  for (const printed of documented) {
    const words = [...printed.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? '');
    const command = words.map((word) => (word === 'capitals-npy' ? folder : word));
    const { code, stdout, stderr } = await runCli([...command, '-u', address()]);
    assert.equal(code, 0, `${printed}\n${stdout}${stderr}`);
  }
  // The same adapter is one of the server's models now.
  const { data } = (await (await fetch(`${server.url}/v1/models`)).json()) as { data: { id: string }[] };
  assert.ok(data.some(({ id }) => id === '3'));
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  const info = /^vllm:lora_requests_info\{(.*)\} (\S+)$/m.exec(metrics);
  assert.ok(info, 'vllm:lora_requests_info');
  assert.match(info[1]!, /max_lora="8".*running_lora_adapters="".*waiting_lora_adapters=""/);
  assert.ok(Number(info[2]) > 1.7e9);
});
