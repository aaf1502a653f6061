import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiKeys, plainKeys } from '../../src/protocol/authentication.ts';
import { eventually, testServer } from '../openai/test-server.ts';
import { runPython } from './run-python.ts';
import { foreignPython } from './venv.ts';

test('the Python openai client: models, chats, streams, completions, errors, asyncio', async (context) => {
  const found = await foreignPython();
  if ('skip' in found) {
    context.skip(found.skip);
    return;
  }
  const says = 'Once upon a time. ';
  const server = await testServer({ says }, { keys: new ApiKeys(plainKeys(['secret'])) });
  context.after(() => server.close());
  const { url } = await server.listen();
  const { code, output } = await runPython(found.python, 'openai_client.py', [`${url}/v1`, says]);
  assert.equal(code, 0, output);
  assert.match(output, /ok$/m);
  await eventually(() => server.engine.statistics().runningSequences === 0, 'nothing runs on');
});
