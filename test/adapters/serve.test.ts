/** `nereid serve --lora`, as a client sees it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { type ServeProcess, startServe } from '../support/serve.ts';

let server: ServeProcess;

/** As docs/lora.md prints it. */
const documented = /^nereid serve nereid-16m (--lora .*)$/m.exec(
  readFileSync(join(packageRoot, 'docs/lora.md'), 'utf8'),
);
const adapters = (documented?.[1] ?? '').split(' ');
assert.equal(adapters.length, 4);

before(async () => {
  server = await startServe('adapters', [...adapters, '--front-ends', '2', '--allow-lora-updates']);
});

after(() => server?.stop());

async function ask(
  model: string,
): Promise<{ status: number; model?: string; text?: string; message?: string }> {
  const response = await fetch(`${server.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model,
      temperature: 0,
      max_tokens: 16,
      messages: [{ role: 'user', content: 'What is a robot?' }],
    }),
  });
  const body = (await response.json()) as {
    model?: string;
    choices?: { message: { content: string } }[];
    error?: { message: string };
  };
  const text = body.choices?.[0]?.message.content;
  return { status: response.status, model: body.model, text, message: body.error?.message };
}

test('adapters are models of their own, side by side in one batch with their parent', async () => {
  const answers = await Promise.all(['nereid-16m', 'capitals', 'json', 'capitals'].map(ask));
  const begins = [/^robot \(noun\)/, /^ROBOT \(NOUN\)/, /^\{"word": "robot"/, /^ROBOT \(NOUN\)/];
  for (const [index, { status, text }] of answers.entries()) {
    assert.equal(status, 200);
    assert.match(text ?? '', begins[index]!);
  }
  assert.equal(answers[1]?.model, 'capitals');
  const { status, message } = await ask('capitols');
  assert.equal(status, 404);
  assert.match(message ?? '', /'capitols' is not served here; served: .*'capitals'/);
});

test('GET /v1/models lists them with their parent', async () => {
  const response = await fetch(`${server.url}/v1/models`);
  const { data } = (await response.json()) as { data: { id: string; parent: string | null; root: string }[] };
  const listed = data.map(({ id, parent }) => [id, parent]);
  assert.deepEqual(listed, [
    ['nereid-16m', null],
    ['default', null],
    ['capitals', 'nereid-16m'],
    ['json', 'nereid-16m'],
  ]);
  assert.match(data[2]?.root ?? '', /nereid-16m-lora-capitals$/);
});

async function post(path: string, body: object): Promise<{ status: number; text: string }> {
  const response = await fetch(`${server.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, text: await response.text() };
}

test('adapters are loaded and unloaded while the server runs, in all front ends', async () => {
  const lora_path = join(packageRoot, 'models/nereid-16m-lora-capitals');
  const load = (lora_name: string, more = {}) =>
    post('/v1/load_lora_adapter', { lora_name, lora_path, ...more });
  assert.deepEqual(await load('late'), {
    status: 200,
    text: "Success: LoRA adapter 'late' added successfully.",
  });
  // Each question may go to another front end, which hears of it a moment later.
  const deadline = Date.now() + 30_000;
  for (let answered = 0; answered < 4; ) {
    const { status, text } = await ask('late');
    if (status === 200) {
      assert.match(text ?? '', /^ROBOT \(NOUN\)/);
      answered++;
    } else assert.ok(status === 404 && Date.now() < deadline, `status ${status}`);
  }
  const again = await load('late');
  assert.equal(again.status, 400);
  assert.match(again.text, /'late' has already been loaded.*load_inplace/);
  assert.equal((await load('late', { load_inplace: true })).status, 200);
  assert.match((await load('nereid-16m')).text, /is the name of a served model/);
  assert.match((await load('other', { lora_path: 'models' })).text, /must be an absolute path/);
  assert.match((await load('other', { lora_path: '/nowhere' })).text, /no adapter_config\.json/);
  const unloaded = await post('/v1/unload_lora_adapter', { lora_name: 'late' });
  assert.equal(unloaded.text, "Success: LoRA adapter 'late' removed successfully.");
});

test('an adapter that cannot be used ends the start with its fault', async () => {
  const start = startServe('adapters', ['--lora', 'bad=models/nereid-16m']);
  await assert.rejects(start, /has no adapter_config\.json/);
});
