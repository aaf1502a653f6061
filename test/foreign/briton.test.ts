import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { startBriton } from '../../src/protocol/briton/server.ts';
import { bytesOf } from '../openai/byte-tokenizer.ts';
import { eventually, testEngine } from '../openai/test-server.ts';
import { foreignPython } from './venv.ts';

const clientTimeoutMs = 120_000;

function runPython(
  python: string,
  script: string,
  args: string[],
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(python, [join(packageRoot, script), ...args], { timeout: clientTimeoutMs });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (bytes: Buffer) => {
        output += bytes.toString();
      });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  });
}

test('Python grpcio: answers, ids of 64 bits, refusals, cancellation, 200 streams of a channel; both example clients', async (context) => {
  const found = await foreignPython();
  if ('skip' in found) {
    context.skip(found.skip);
    return;
  }
  const says = 'Größe counts. ';
  const { engine, model } = await testEngine({ says, stepMs: 1, slots: 64 });
  const server = await startBriton({
    model,
    host: '127.0.0.1',
    port: 0,
    readiness: () => ({ '': true }),
  });
  // A client that fails must not leave them running.
  context.after(async () => {
    await engine.close();
    await server.close();
  });
  const address = `127.0.0.1:${server.port}`;
  const conformance = await runPython(found.python, 'test/foreign/briton_client.py', [address, says]);
  assert.equal(conformance.code, 0, conformance.output);
  assert.match(conformance.output, /ok$/m);
  const prompt = '.'.repeat(bytesOf(says).length);
  const length = String(bytesOf(says).length);
  const single = await runPython(found.python, 'examples/python/briton_client.py', [
    '--address',
    address,
    '--prompt',
    prompt,
    '--output-len',
    length,
  ]);
  assert.equal(single.code, 0, single.output);
  assert.match(single.output, /^Größe counts\. \n\[16 tokens, LENGTH\]/);
  const load = await runPython(found.python, 'examples/python/briton_load_client.py', [
    '--address',
    address,
    '--requests',
    '24',
    '--concurrency',
    '8',
    '--output-len',
    '6',
  ]);
  assert.equal(load.code, 0, load.output);
  assert.match(load.output, /24 done, 0 failed/);
  await eventually(() => engine.statistics().runningSequences === 0, 'nothing runs on');
});
