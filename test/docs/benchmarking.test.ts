import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { startServe } from '../support/serve.ts';

const commandTimeoutMs = 120_000;

/** The shell commands of a page, in its order. */
function commandsOf(page: string): string[] {
  const text = readFileSync(join(packageRoot, page), 'utf8');
  return [...text.matchAll(/^```sh\n([\s\S]*?)^```/gm)].flatMap(([, block = '']) => block.trim().split('\n'));
}

test('docs/benchmarking.md: every command runs as printed, but for ports and /tmp', async () => {
  const root = join(packageRoot, '.cache');
  mkdirSync(root, { recursive: true });
  const folder = mkdtempSync(join(root, 'benchmarking-'));
  const [serve = '', ...commands] = commandsOf('docs/benchmarking.md');
  const found =
    /^NEREID_TRACER_OUT=\/tmp\/(\S+) bin\/nereid serve nereid-16m (.*) --http-port 8000 --grpc-port 8001$/.exec(
      serve,
    );
  assert.ok(found?.[1] && found[2], serve);
  const flags = [...found[2].split(' '), '--grpc-port', '0', '--log-level', 'error'];
  const server = await startServe('benchmarking-test', flags, { NEREID_TRACER_OUT: join(folder, found[1]) });
  try {
    const grpc = /GRPCInferenceService at (\S+)/.exec(server.log())?.[1] ?? '';
    const env = { ...process.env, NODE_OPTIONS: '', NEREID_FROM_SOURCE: '1', NEREID_OFFLINE: '1' };
    assert.ok(commands.length > 10);
    for (const printed of commands) {
      const command = printed
        .replaceAll('127.0.0.1:8000', server.url.replace('http://', ''))
        .replaceAll('127.0.0.1:8001', grpc)
        .replaceAll('/tmp/', `${folder}/`)
        .replaceAll(/\/tmp$/g, folder);
      const run = spawnSync('bash', ['-c', command], {
        cwd: packageRoot,
        env,
        encoding: 'utf8',
        timeout: commandTimeoutMs,
      });
      assert.equal(run.status, 0, `${printed}\n${run.stdout}\n${run.stderr}`);
    }
  } finally {
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
});
