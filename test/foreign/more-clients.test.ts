import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { packageRoot } from '../../src/base/entry.ts';
import { type ServeProcess, startServe } from '../support/serve.ts';
import { foreignPython } from './venv.ts';

/** The clients whose installation is too large for every run (a gigabyte): `make clients`. What each checks is in `more_clients.py`. */
const skip = process.env.NEREID_ALL_CLIENTS
  ? false
  : 'a long form: set NEREID_ALL_CLIENTS=1, or run `make clients`';
const clients = [
  'llama_index',
  'openai_agents',
  'smolagents',
  'haystack',
  'autogen',
  'dspy',
  'inspect_ai',
  'aiperf',
];
const run = promisify(execFile);
const timeoutMs = 300_000;
const cacheName = 'more-clients';

/** The tokenizer of the engine that the server built. */
function tokenizerFolder(): string {
  const engines = join(packageRoot, '.cache', cacheName, 'engines');
  const found = readdirSync(engines)
    .map((name) => join(engines, name, 'tokenizer'))
    .find((folder) => existsSync(folder));
  assert.ok(found, 'a tokenizer');
  return found;
}

describe('more foreign clients', { skip }, () => {
  let server: ServeProcess;
  before(async () => {
    server = await startServe(cacheName, ['--log-level', 'warn']);
  });
  after(() => server.stop());
  for (const client of clients) {
    test(client, async (context) => {
      const found = await foreignPython('more-clients', 'requirements-more.txt');
      if ('skip' in found) return context.skip(found.skip);
      const script = join(import.meta.dirname, 'more_clients.py');
      const env = { ...process.env, DO_NOT_TRACK: '1', LITELLM_LOCAL_MODEL_COST_MAP: 'True' };
      const { stdout } = await run(found.python, [script, client, server.url, tokenizerFolder()], {
        timeout: timeoutMs,
        env,
      });
      assert.match(stdout, /ok$/m);
    });
  }
});
