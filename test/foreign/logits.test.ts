import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startServe } from '../support/serve.ts';
import { runPython } from './run-python.ts';
import { foreignPython } from './venv.ts';

test('tritonclient: context and generation logits of a served model, streamed and whole', async (context) => {
  const found = await foreignPython();
  if ('skip' in found) {
    context.skip(found.skip);
    return;
  }
  const server = await startServe('foreign-logits', ['--grpc-port', '0', '--log-level', 'error']);
  const port = /Started GRPCInferenceService at \S+:(\d+)/.exec(server.log())?.[1];
  assert.ok(port, server.log());
  const { code, output } = await runPython(found.python, 'logits_client.py', [port]);
  assert.equal(code, 0, `${output}\n${server.log()}`);
  assert.match(output, /ok$/m);
  assert.equal(await server.stop(), 0, server.log());
});
