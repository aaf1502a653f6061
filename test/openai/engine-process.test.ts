import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import OpenAI from 'openai';
import { ServerMetrics } from '../../src/protocol/metrics.ts';
import { createOpenAiServer } from '../../src/protocol/openai/server.ts';
import { servedModel } from '../../src/protocol/served-model.ts';
import { EngineSupervisor } from '../../src/runtime/process/supervisor.ts';
import { bytesOf, byteTokenizer, byteVocabularySize } from './byte-tokenizer.ts';
import { eventually, promptOf } from './test-server.ts';

const says = 'to be or not ';

test('an engine process that is killed ends its streams with an error event, and is back for the next request', async () => {
  const supervisor = await EngineSupervisor.start({
    name: 'test',
    device: 'null',
    deviceOptions: { mode: 'script', script: bytesOf(says).join(','), 'step-ms': '2' },
    nullModel: { vocabularySize: byteVocabularySize, contextLength: 4096 },
    threads: 1,
    slots: 8,
    batchTokensMax: 256,
    kvDtype: 'f16',
    kvBytesMax: 64 * 1024 * 1024,
    prefixReuse: false,
  });
  const { client } = supervisor;
  const model = servedModel({ name: 'test', client, tokenizer: byteTokenizer(), createdSeconds: 0 });
  const metrics = new ServerMetrics({ models: [model], processMetrics: false });
  const app = createOpenAiServer({ models: [model], metrics, version: '0.0.0' });
  await app.listen({ port: 0, host: '127.0.0.1' });
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries: 0 });
  const fields = { model: 'test', prompt: promptOf(says), temperature: 0 };

  const stream = await openai.completions.create({ ...fields, max_tokens: 4000, stream: true });
  let text = '';
  await assert.rejects(async () => {
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? '';
      if (text.length === 10) process.kill(supervisor.pid!, 'SIGKILL');
    }
  }, /restart/);
  assert.ok(text.startsWith('to be or n'));

  const unready = await fetch(`${url}/health/ready`);
  assert.equal(unready.status, 503);
  assert.match(((await unready.json()) as { reason: string }).reason, /test/);
  await assert.rejects(openai.completions.create(fields), { status: 503 });
  assert.equal((await fetch(`${url}/health/live`)).status, 200);
  assert.equal((await fetch(`${url}/metrics`)).status, 200);

  await client.whenReady();
  await eventually(() => client.ready, 'the engine is back');
  assert.equal((await fetch(`${url}/health/ready`)).status, 200);
  const again = await openai.completions.create({ ...fields, max_tokens: 5 });
  assert.equal(again.choices[0]?.text, 'to be');
  await supervisor.close();
  await app.close();
});
