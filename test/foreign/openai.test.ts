import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { ApiKeys, plainKeys } from '../../src/protocol/authentication.ts';
import { eventually, testServer } from '../openai/test-server.ts';
import { foreignPython } from './venv.ts';

/** Runs a script of this folder to its end; its output, whatever its exit code. */
function runPython(
  python: string,
  script: string,
  args: string[],
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(python, [join(import.meta.dirname, script), ...args]);
    let output = '';
    const gather = (chunk: Buffer) => {
      output += chunk.toString();
    };
    child.stdout.on('data', gather);
    child.stderr.on('data', gather);
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  });
}

test('the Python openai client: models, chats, streams, completions, errors, asyncio', async (context) => {
  const found = await foreignPython();
  if ('skip' in found) {
    context.skip(found.skip);
    return;
  }
  const says = 'Once upon a time. ';
  const server = await testServer({ says }, { keys: new ApiKeys(plainKeys(['secret'])) });
  const { url } = await server.listen();
  const { code, output } = await runPython(found.python, 'openai_client.py', [`${url}/v1`, says]);
  assert.equal(code, 0, output);
  assert.match(output, /ok$/m);
  await eventually(() => server.engine.statistics().runningSequences === 0, 'nothing runs on');
  await server.close();
});
