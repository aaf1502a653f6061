import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { runCli } from '../support/run-cli.ts';
import { startServe } from '../support/serve.ts';

const cache = 'serve-options-test';
const nullDevice = ['--device', 'null'];

describe('nereid serve: options that people get wrong', () => {
  test('--port, -p and vLLM’s names are taken; the address has the /v1 that clients want; what is cut is warned of', async () => {
    const busy = createServer().listen(0, '127.0.0.1');
    await once(busy, 'listening');
    const { port } = busy.address() as AddressInfo;
    busy.close();
    await once(busy, 'close');
    const flags = ['-p', String(port), '--max-model-len', '1000000', '--max-num-seqs', '2'];
    const server = await startServe(cache, [...nullDevice, ...flags]);
    assert.equal(server.url, `http://127.0.0.1:${port}`);
    assert.match(server.log(), /OpenAI at http:\/\/127\.0\.0\.1:\d+\/v1[,)]/);
    assert.match(server.log(), /1000000 is over the \d+ positions/);
    // Not a terminal: JSON.
    assert.match(server.log(), /^\{"level":40/m);
    await server.stop();
    assert.equal(server.child.exitCode, 0);
  });

  test('--log-format human', async () => {
    const server = await startServe(cache, [...nullDevice, '--log-format', 'human']);
    await fetch(`${server.url}/v1/models`);
    await server.stop();
    assert.match(server.log(), /^\d\d:\d\d:\d\d request GET \/v1\/models 200 request_id=/m);
  });

  test('a busy port is found before anything is loaded; a KV cache of nothing is refused', async () => {
    const busy = createServer().listen(0, '127.0.0.1');
    await once(busy, 'listening');
    const { port } = busy.address() as AddressInfo;
    const taken = await runCli(['serve', 'no/such-model', '--http-port', String(port)]);
    busy.close();
    assert.match(taken.stderr, /PORT_IN_USE/);
    const tiny = await runCli(['serve', 'nereid-16m', '--http-port', '0', '--kv-cache-size', '1KB'], {
      env: { NEREID_CACHE: join(packageRoot, '.cache', cache) },
    });
    assert.equal(tiny.code, 1, tiny.stderr);
    assert.match(tiny.stderr, /--kv-cache-size.*KV_CACHE_TOO_SMALL/);
  });
});
