import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { format } from '../../src/protocol/tool-parsers/hermes.ts';
import { bytesOf } from '../openai/byte-tokenizer.ts';
import { type TestServer, testServer } from '../openai/test-server.ts';
import { foreignNode, nodeFolder } from './node-clients.ts';
import { foreignPython } from './venv.ts';

/**
 * The client matrix: third-party clients, each the way its own documentation shows (docs/clients.md), against servers that always say
 * the same: a sentence, a call to a tool, JSON; and one that says tokens by chance, which a guide alone makes answers of. What each checks is in `clients.py` and `node/clients.mjs`.
 */
const answers = [
  'Once upon a time, a client asked.',
  '<tool_call>{"name": "add", "arguments": {"a": 1, "b": 2}}</tool_call>',
  '```json\n{"name": "Ada", "age": 36}\n```',
];
const clientTimeoutMs = 120_000;

/**
 * A scripted engine begins where its prompt's length says, so the template makes one of the answer's length, whatever is asked; a
 * very long message goes in, to be over the context.
 */
function sayingServer(says: string): Promise<TestServer> {
  const dots = '.'.repeat(bytesOf(says).length + 1);
  const long = '{% if messages[0].content | length > 50000 %}{{ messages[0].content }}{% endif %}';
  const chatTemplate = `{# takes tools #}${dots}${long}`;
  const model = { chatTemplate, defaults: { temperature: 0 }, formats: { tools: format } };
  return testServer({ says, thenStops: true, model });
}

/** Runs a client's script to its end. */
function run(
  command: string,
  parameters: readonly string[],
): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    // Clients that look for updates, prices or telemetry find nothing.
    const env = {
      ...process.env,
      NODE_OPTIONS: '',
      DO_NOT_TRACK: '1',
      HF_HUB_OFFLINE: '1',
      LITELLM_LOCAL_MODEL_COST_MAP: 'True',
    };
    const child = spawn(command, parameters, { env, timeout: clientTimeoutMs });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (bytes) => {
        output += bytes;
      });
    }
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, output }));
  });
}

describe('foreign clients', () => {
  const servers: TestServer[] = [];
  let urls: string[] = [];
  before(async () => {
    for (const says of answers) servers.push(await sayingServer(says));
    servers.push(await testServer({ model: { formats: { tools: format } } }));
    urls = await Promise.all(servers.map(async (server) => (await server.listen()).url));
  });
  after(() => Promise.all(servers.map((server) => server.close())));

  for (const client of ['litellm', 'langchain', 'instructor', 'pydantic_ai', 'anthropic', 'lm_eval']) {
    test(`Python: ${client}`, async (context) => {
      const found = await foreignPython();
      if ('skip' in found) {
        context.skip(found.skip);
        return;
      }
      const { code, output } = await run(found.python, [
        join(import.meta.dirname, 'clients.py'),
        client,
        ...urls,
      ]);
      assert.equal(code, 0, output);
      assert.match(output, /ok$/m);
    });
  }

  for (const client of ['langchain', 'ai-sdk', 'anthropic']) {
    test(`JavaScript: ${client}`, async (context) => {
      const missing = await foreignNode();
      if (missing) {
        context.skip(missing.skip);
        return;
      }
      const { code, output } = await run(process.execPath, [
        join(nodeFolder, 'clients.mjs'),
        client,
        ...urls,
      ]);
      assert.equal(code, 0, output);
      assert.match(output, /ok$/m);
    });
  }
});
