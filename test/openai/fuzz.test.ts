import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { eventually, type TestServer, testServer } from './test-server.ts';

/** Time for each of the fuzzers below. */
const fuzzMs = Number(process.env.NEREID_FUZZ_MS ?? 3_000);
/** Reproduces a failure that printed its seed. */
const seed = process.env.NEREID_FUZZ_SEED ? Number(process.env.NEREID_FUZZ_SEED) : undefined;
const parameters = {
  numRuns: 1_000_000,
  interruptAfterTimeLimit: fuzzMs,
  markInterruptAsFailure: false,
  ...(seed === undefined ? {} : { seed }),
} as const;

const fields = [
  'model',
  'messages',
  'prompt',
  'max_tokens',
  'max_completion_tokens',
  'temperature',
  'top_p',
  'top_k',
  'min_p',
  'n',
  'best_of',
  'stop',
  'stop_token_ids',
  'stream',
  'stream_options',
  'presence_penalty',
  'frequency_penalty',
  'repetition_penalty',
  'logit_bias',
  'logprobs',
  'top_logprobs',
  'seed',
  'user',
  'response_format',
  'tools',
  'tool_choice',
  'min_tokens',
  'ignore_eos',
  'echo',
  'suffix',
  'add_generation_prompt',
  'chat_template_kwargs',
  'cache_salt',
  'priority',
  'include_stop_str_in_output',
  'skip_special_tokens',
  'return_token_ids',
  'tokens',
  'constructor',
  '__proto__',
  'toString',
  'store',
  'modalities',
  'reasoning_effort',
];

/** Values near what fields take, and anything else that JSON can say. */
const value = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom<unknown>(
      0,
      1,
      2,
      -1,
      0.5,
      128,
      129,
      1e9,
      2 ** 53,
      -(2 ** 63),
      1e300,
      true,
      false,
      null,
      '',
      'x',
      'test',
      'auto',
      'none',
      'text',
    ),
  },
  {
    weight: 1,
    arbitrary: fc.array(
      fc.oneof(fc.integer({ min: -2, max: 300 }), fc.string(), fc.array(fc.integer({ min: 0, max: 258 }))),
      { maxLength: 6 },
    ),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom<unknown>(
      [{ role: 'user', content: 'hi' }],
      [{ role: 'assistant', tool_calls: [{ function: { name: 'f', arguments: '{}' } }] }],
      [{ role: 'user', content: [{ type: 'text', text: '\ud800' }] }],
      { '1': 3 },
      { '256': -100 },
      { include_usage: true },
      { type: 'json_object' },
      { type: 'text' },
      ['a', 'b'],
    ),
  },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 4 }) },
);
const body = fc.dictionary(fc.constantFrom(...fields), value, { maxKeys: 8 });
const valid = fc.constantFrom(
  { messages: [{ role: 'user', content: 'hi' }], max_tokens: 3 },
  { prompt: 'hi', max_tokens: 3 },
);
const paths = fc.constantFrom('/v1/chat/completions', '/v1/completions', '/tokenize', '/detokenize');

describe('fuzz', () => {
  let server: TestServer;
  let port: number;
  before(async () => {
    server = await testServer({ contextLength: 96 });
    ({ port } = await server.listen());
  });
  after(() => server.close());

  async function assertAlive(): Promise<void> {
    const payload = { prompt: 'x', max_tokens: 2 };
    const response = await server.app.inject({ method: 'POST', url: '/v1/completions', payload });
    assert.equal(response.statusCode, 200);
    // The last body's request may still run where its time limit ended a property.
    await eventually(() => server.engine.statistics().runningSequences === 0, 'nothing runs on');
    assert.equal(server.engine.statistics().waitingRequests, 0);
  }

  /** 200, or a 4xx in OpenAI's shape. */
  function check(status: number, text: string): void {
    if (status === 200) return;
    assert.ok(status >= 400 && status < 500, `${status}: ${text}`);
    const { error } = JSON.parse(text);
    assert.equal(typeof error.message, 'string');
    assert.ok(!error.message.includes('\n') && error.message.length < 2000, error.message);
    assert.equal(typeof error.type, 'string');
  }

  const send = async (url: string, payload: string | Buffer) => {
    const headers = { 'content-type': 'application/json' };
    const response = await server.app.inject({ method: 'POST', url, payload, headers });
    check(response.statusCode, response.body);
  };

  test('JSON bodies of odd fields and values', async () => {
    const property = fc.asyncProperty(paths, valid, body, fc.boolean(), (path, base, odd, mixed) =>
      send(path, JSON.stringify(mixed ? { ...base, ...odd } : odd)),
    );
    await fc.assert(property, parameters);
    await assertAlive();
  });

  test('bodies that are bytes, and JSON with bytes changed', async () => {
    const broken = fc.tuple(valid, fc.nat(), fc.uint8Array({ maxLength: 4 })).map(([base, at, bytes]) => {
      const whole = Buffer.from(JSON.stringify(base));
      const cut = at % whole.length;
      return Buffer.concat([whole.subarray(0, cut), bytes, whole.subarray(cut + bytes.length)]);
    });
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array)),
      broken,
    );
    await fc.assert(fc.asyncProperty(paths, bytes, send), parameters);
    await assertAlive();
  });

  test('sockets that send anything and hang up anywhere', async () => {
    const text = JSON.stringify({ prompt: 'x', max_tokens: 90, stream: true });
    const whole = Buffer.from(
      `POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${text.length}\r\n\r\n${text}`,
    );
    const wire = fc.oneof(
      fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array)),
      fc.tuple(fc.nat(), fc.uint8Array({ maxLength: 3 }), fc.nat({ max: 3 })).map(([at, bytes, copies]) => {
        const cut = at % whole.length;
        const changed = Buffer.concat([
          whole.subarray(0, cut),
          bytes,
          whole.subarray(cut + (bytes.length % 2)),
        ]);
        return Buffer.concat([...Array.from({ length: copies }, () => whole), changed]);
      }),
    );
    const property = fc.asyncProperty(wire, fc.constantFrom('end', 'reset', 'wait'), async (bytes, how) => {
      await new Promise<void>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => {
          socket.write(bytes);
          if (how === 'end') socket.end();
          else if (how === 'reset') setImmediate(() => socket.resetAndDestroy());
          else socket.once('data', () => socket.destroy());
          // Requests that are not whole get no answer: leave.
          setTimeout(() => socket.destroy(), 5);
        });
        socket.on('error', () => {});
        socket.on('data', () => {});
        socket.on('close', () => resolve());
      });
    });
    await fc.assert(property, parameters);
    await eventually(() => server.engine.statistics().runningSequences === 0, 'what was left behind ends');
    await assertAlive();
  });
});
