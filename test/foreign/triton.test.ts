import assert from 'node:assert/strict';
import { existsSync, rmSync } from 'node:fs';
import { test } from 'node:test';
import { protoFolder } from '../../src/protocol/proto-messages.ts';
import { startServe } from '../support/serve.ts';
import { writeTestModels } from '../triton/models.ts';
import { runPython } from './run-python.ts';
import { foreignPython } from './venv.ts';

/** The port in a start-up line. */
function portOf(log: string, service: string): string {
  const port = new RegExp(`Started ${service} at \\S+:(\\d+)`).exec(log)?.[1];
  assert.ok(port, log);
  return port;
}

test('tritonclient (grpc, http, asyncio, shared memory) and raw grpcio against nereid serve --model-repository', async (context) => {
  const found = await foreignPython();
  if ('skip' in found || !existsSync('/dev/shm')) {
    context.skip('skip' in found ? found.skip : 'this machine has no /dev/shm');
    return;
  }
  const folder = writeTestModels();
  const server = await startServe('foreign-triton', [
    ...['--device', 'null', '--grpc-port', '0', '--metrics-port', '0', '--log-level', 'error'],
    ...['--model-repository', folder, '--model-control-mode', 'explicit', '--load-model', '*'],
  ]);
  const log = server.log();
  const ports = ['HTTPService', 'GRPCInferenceService', 'Metrics Service'].map((service) =>
    portOf(log, service),
  );
  const { code, output } = await runPython(found.python, 'triton_client.py', [...ports, protoFolder]);
  assert.equal(code, 0, output);
  assert.match(output, /^ok$/m);
  assert.equal(await server.stop(), 0, server.log());
  rmSync(folder, { recursive: true });
});
