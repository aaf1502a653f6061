import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ApiKeys, keyDigest } from '../../src/protocol/authentication.ts';
import { eventually } from '../openai/test-server.ts';
import { type EngineModelsOptions, engineModels } from '../repository/engine-models.ts';
import { ask } from './ask.ts';
import { askGrpc } from './ask-grpc.ts';
import { tritonServer } from './test-server.ts';

const secret = 'sk-anna';
const headers = { 'content-type': 'application/json', authorization: `Bearer ${secret}` };
const metadata = { authorization: `Bearer ${secret}` };

function keysOf(limits: {
  tokensPerMinute?: number;
  requestsPerMinute?: number;
  concurrentRequests?: number;
}) {
  const tokens: number[] = [];
  const observer = {
    request: () => {},
    refused: () => {},
    tokens: (_: string, count: number) => tokens.push(count),
  };
  const keys = new ApiKeys([{ name: 'anna', sha256: keyDigest(secret), ...limits }], observer);
  return { keys, tokens };
}

const bytes = (name: string, text: string) => {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(text.length);
  return [{ name, datatype: 'BYTES', shape: [1, 1] }, Buffer.concat([length, Buffer.from(text)])] as const;
};
const int32 = (name: string, value: number) => {
  const raw = Buffer.alloc(4);
  raw.writeInt32LE(value);
  return [{ name, datatype: 'INT32', shape: [1, 1] }, raw] as const;
};

/** A request to the ensemble with `abc` for a prompt. */
function message(maxTokens: number) {
  const inputs = [bytes('text_input', 'abc'), int32('max_tokens', maxTokens)];
  return {
    model_name: 'ensemble',
    inputs: inputs.map(([head]) => head),
    raw_input_contents: inputs.map(([, raw]) => raw),
  };
}

describe("a key's limits over KServe", () => {
  const cases: [string, EngineModelsOptions & { model: string }][] = [
    ['the ensemble', { model: 'ensemble' }],
    ['BLS', { model: 'tensorrt_llm_bls' }],
    ['the LLM API', { model: 'tensorrt_llm', group: 'llmapi' }],
  ];
  for (const [name, { model, ...options }] of cases) {
    test(`tokens of ${name} are counted, and then it is refused`, async (context) => {
      const models = await engineModels(options);
      context.after(() => models.close());
      const { keys, tokens } = keysOf({ tokensPerMinute: 20 });
      const server = await tritonServer({ repository: models.repository, keys });
      context.after(() => server.close());
      const generate = (fields: object) =>
        ask(server.httpPort, {
          name: '',
          method: 'POST',
          path: `/v2/models/${model}/generate`,
          headers,
          body: JSON.stringify(fields),
        });
      const length = options.group ? 'sampling_param_max_tokens' : 'max_tokens';
      const first = await generate({ text_input: 'abc', [length]: 30 });
      assert.equal(first.status, 200, first.body);
      await eventually(() => tokens.length === 1, 'the tokens are counted');
      // The prompt has three bytes, and may have a token that begins it.
      assert.ok((tokens[0] ?? 0) >= 23 && (tokens[0] ?? 0) <= 34, String(tokens));
      const second = await generate({ text_input: 'abc', [length]: 1 });
      assert.equal(second.status, 429, second.body);
      assert.match(second.body, /tokens per minute/);
      assert.equal(tokens.length, 1);
    });
  }

  test('each message of a gRPC stream is a request', async (context) => {
    const models = await engineModels({ values: { decoupled_mode: 'true' } });
    context.after(() => models.close());
    const { keys, tokens } = keysOf({ requestsPerMinute: 3 });
    const server = await tritonServer({ repository: models.repository, keys });
    context.after(() => server.close());
    const five = Array.from({ length: 5 }, () => message(4));
    const { code, responses } = await askGrpc(server.client, {
      name: '',
      method: 'ModelStreamInfer',
      requests: five,
      metadata,
    });
    assert.equal(code, 0);
    const refused = (responses as { error_message?: string }[]).filter(({ error_message }) =>
      /at its limit of 3 requests per minute/.test(error_message ?? ''),
    );
    assert.equal(refused.length, 2);
    await eventually(() => tokens.length === 3, 'the tokens of those that ran');
  });

  test('a unary call beyond the limit is RESOURCE_EXHAUSTED', async (context) => {
    const models = await engineModels({ values: { decoupled_mode: 'false' } });
    context.after(() => models.close());
    const { keys } = keysOf({ requestsPerMinute: 1 });
    const server = await tritonServer({ repository: models.repository, keys });
    context.after(() => server.close());
    const one = { name: '', method: 'ModelInfer', requests: [message(2)], metadata };
    assert.equal((await askGrpc(server.client, one)).code, 0);
    const { code, details } = await askGrpc(server.client, one);
    assert.equal(code, 8);
    assert.match(details, /requests per minute/);
    assert.equal((await askGrpc(server.client, { ...one, metadata: {} })).code, 16);
  });
});
