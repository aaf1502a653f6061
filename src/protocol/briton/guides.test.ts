import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Client, credentials } from '@grpc/grpc-js';
import { byteTokenizer, byteVocabularySize } from '../../../test/openai/byte-tokenizer.ts';
import { testEngine } from '../../../test/openai/test-server.ts';
import { messageCodec, type PlainMessage } from '../proto-messages.ts';
import { startBriton } from './server.ts';

const requests = messageCodec('briton.proto', 'briton.InferenceRequest');
const answers = messageCodec('briton.proto', 'briton.InferenceAnswerPart');
const schemas = mkdtempSync(join(tmpdir(), 'nereid-briton-schemas-'));
const closers: (() => Promise<void> | void)[] = [];
after(async () => {
  for (const close of closers.reverse()) await close();
  rmSync(schemas, { recursive: true, force: true });
});

const person = {
  type: 'object',
  properties: { name: { type: 'string', maxLength: 6 }, age: { type: 'integer', minimum: 0, maximum: 99 } },
  required: ['name', 'age'],
  additionalProperties: false,
};
const calls = {
  type: 'array',
  minItems: 1,
  maxItems: 1,
  items: {
    type: 'object',
    properties: { name: { const: 'save' }, parameters: person },
    required: ['name', 'parameters'],
    additionalProperties: false,
  },
};
const toolsId = byteVocabularySize;

/** Asks, and gathers the parts' texts and tokens. */
type Ask = (request: PlainMessage) => Promise<{ text: string; ids: number[]; finish: unknown }>;

async function start(folder: string | undefined): Promise<Ask> {
  const tokenizer = byteTokenizer({ moreTokens: ['<|python_tag|>'] });
  const { engine, model } = await testEngine({ tokenizer });
  const address = { host: '127.0.0.1', port: 0 };
  const server = await startBriton({ model, ...address, schemas: folder, readiness: () => ({ '': true }) });
  const client = new Client(`127.0.0.1:${server.port}`, credentials.createInsecure());
  closers.push(
    () => engine.close(),
    () => server.close(),
    () => client.close(),
  );
  return async (request) => {
    const stream = client.makeServerStreamRequest(
      '/briton.Briton/Infer',
      (message: PlainMessage) => requests.encode(message),
      (bytes) => answers.decode(bytes),
      {
        request_id: 1,
        input_text: 'hi',
        request_output_len: 400,
        random_seed: 3,
        runtime_top_k: 50,
        ...request,
      },
    );
    const parts: PlainMessage[] = [];
    for await (const part of stream) parts.push(part as PlainMessage);
    return {
      text: parts.map(({ output_text: text }) => text).join(''),
      ids: parts.flatMap(({ output_ids: ids }) => ids as number[]),
      finish: parts.at(-1)?.finish_reason,
    };
  };
}

function assertPerson(value: { name: string; age: number }): void {
  assert.deepEqual(Object.keys(value), ['name', 'age']);
  assert.ok(
    [...value.name].length <= 6 && Number.isInteger(value.age) && value.age <= 99,
    JSON.stringify(value),
  );
}

test('guided_decoding_params: JSON, a schema, a regex, a grammar', async () => {
  const ask = await start(undefined);
  const guided = (guide_type: number | string, guide = '') =>
    ask({ guided_decoding_params: { guide_type, guide } });
  const any = await guided('JSON');
  if (any.finish === 'END_ID') assert.equal(typeof JSON.parse(any.text), 'object');
  assertPerson(JSON.parse((await guided('JSON_SCHEMA', JSON.stringify(person))).text));
  assert.match((await guided('REGEX', '[a-c]{4}-\\d{2}')).text, /^[a-c]{4}-\d{2}$/);
  assert.match((await guided('EBNF_GRAMMAR', 'root ::= "yes" | "no"')).text, /^(yes|no)$/);
  await assert.rejects(guided('REGEX', '('), { code: 3, details: /guided_decoding_params/ });
  await assert.rejects(guided('REGEX'), { code: 3, details: /the guide is empty/ });
  await assert.rejects(guided(7), { code: 3, details: /guide_type is 7/ });
});

test('output_schema_hash names a schema of the folder; force_tools and tools_id make it a call', async () => {
  writeFileSync(join(schemas, 'a1b2'), JSON.stringify(person));
  writeFileSync(join(schemas, 'c3d4.json'), JSON.stringify(calls));
  const ask = await start(schemas);
  assertPerson(JSON.parse((await ask({ output_schema_hash: 'a1b2' })).text));
  const [called] = JSON.parse((await ask({ output_schema_hash: 'c3d4', force_tools: true })).text);
  assert.equal(called.name, 'save');
  assertPerson(called.parameters);
  const forced = await ask({ output_schema_hash: 'c3d4', force_tools: true, tools_id: toolsId });
  assert.equal(forced.ids[0], toolsId, 'a call begins with its token');
  assertPerson(JSON.parse(forced.text)[0].parameters);
  const free = await ask({ output_schema_hash: 'c3d4', tools_id: toolsId, request_output_len: 40 });
  const at = free.ids.indexOf(toolsId);
  assert.ok(at < 0 ? free.ids.length > 0 : free.ids[at + 1] === 0x5b, 'free text, or a call');
  for (const [fields, details] of [
    [{ output_schema_hash: '../a1b2' }, /is no hash/],
    [{ output_schema_hash: 'ffff' }, /no schema 'ffff'/],
    [{ output_schema_hash: 'c3d4', tools_id: 65 }, /no special token/],
    [{ output_schema_hash: 'a1b2', guided_decoding_params: { guide: 'a' } }, /not both/],
  ] as const)
    await assert.rejects(ask(fields), { code: 3, details });
});
