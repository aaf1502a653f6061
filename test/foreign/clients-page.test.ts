import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { packageRoot } from '../../src/base/entry.ts';
import { type ServeProcess, startServe } from '../support/serve.ts';
import { foreignNode, nodeFolder } from './node-clients.ts';
import { foreignPython } from './venv.ts';

/** docs/clients.md: its blocks of `python` and `js`, as printed, against a real server; only the port is another one. */
const page = readFileSync(join(packageRoot, 'docs/clients.md'), 'utf8');
const run = promisify(execFile);
const timeout = 120_000;

function blocks(language: string): string[] {
  return [...page.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    ([, code]) => code as string,
  );
}

describe('docs/clients.md', () => {
  // Inside the folder with the modules, where imports find them.
  const folder = mkdtempSync(join(nodeFolder, 'page-'));
  let server: ServeProcess;
  before(async () => {
    server = await startServe('clients-page', ['--log-level', 'warn']);
  });
  after(async () => {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const localized = (code: string): string => code.replaceAll('http://localhost:8000', server.url);

  for (const [index, code] of blocks('python').entries()) {
    test(`Python block ${index + 1}: ${code.split('\n')[0]}`, async (context) => {
      const found = await foreignPython();
      if ('skip' in found) return context.skip(found.skip);
      const script = join(folder, `${index}.py`);
      writeFileSync(script, localized(code));
      const env = { ...process.env, LITELLM_LOCAL_MODEL_COST_MAP: 'True' };
      const { stdout } = await run(found.python, [script], { timeout, env });
      assert.match(stdout, /river/);
    });
  }
  for (const [index, code] of blocks('js').entries()) {
    test(`JavaScript block ${index + 1}: ${code.split('\n')[0]}`, async (context) => {
      const missing = await foreignNode();
      if (missing) return context.skip(missing.skip);
      const script = join(folder, `${index}.mjs`);
      writeFileSync(script, localized(code));
      const { stdout } = await run(process.execPath, [script], {
        timeout,
        env: { ...process.env, NODE_OPTIONS: '' },
      });
      assert.match(stdout, /river/);
    });
  }
});
