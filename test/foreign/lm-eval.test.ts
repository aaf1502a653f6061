import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { startServe } from '../support/serve.ts';
import { sharedPath, skipWithout } from '../support/shared.ts';
import { foreignPython } from './venv.ts';

const run = promisify(execFile);
const timeoutMs = 180_000;

test('lm-eval finds the log-likelihoods of Hugging Face', {
  skip: skipWithout('models/stories260K'),
}, async (context) => {
  const found = await foreignPython();
  if ('skip' in found) return context.skip(found.skip);
  const flags = ['--log-level', 'warn', '--device', 'reference', '--kv-dtype', 'f32'];
  const server = await startServe('lm-eval', flags, {}, [
    sharedPath('models/stories260K/stories260K-f32.gguf'),
  ]);
  try {
    const script = join(import.meta.dirname, 'lm_eval_values.py');
    const recorded = join(import.meta.dirname, 'lm-eval-hf.json');
    const env = { ...process.env, HF_HUB_OFFLINE: '1', DO_NOT_TRACK: '1' };
    const { stdout } = await run(found.python, [script, server.url, recorded], { timeout: timeoutMs, env });
    assert.match(stdout, /^ok, 18 log-likelihoods/m);
    context.diagnostic(stdout.trim().split('\n').at(-1) ?? '');
  } finally {
    await server.stop();
  }
});
