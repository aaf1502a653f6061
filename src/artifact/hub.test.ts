import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { silentReporter } from '../builder/reporter.ts';
import { Cache } from './cache.ts';
import { cachedSnapshot, downloadSnapshot, parseHubReference } from './hub.ts';

const commit = 'a'.repeat(40);
const folder = mkdtempSync(join(tmpdir(), 'nereid-hub-'));
const repositories: Record<string, Record<string, Buffer>> = {
  'org/plain': {
    'config.json': Buffer.from('{}'),
    'model.safetensors': Buffer.from('weights'),
    'picture.png': Buffer.from('not wanted'),
    'onnx/model.safetensors': Buffer.from('not wanted'),
  },
  'org/one-gguf': { 'model.gguf': Buffer.from('GGUF one'), 'README.md': Buffer.from('text') },
  'org/many-gguf': { 'a.gguf': Buffer.from('GGUF a'), 'b.gguf': Buffer.from('GGUF b') },
  'org/corrupt': { 'config.json': Buffer.from('{}'), 'model.safetensors': Buffer.from('weights') },
};
const requests: string[] = [];
let server: Server;

/** Answers as the hub does where its client asks: model info, file tree, and files by range. */
before(async () => {
  server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://hub');
    requests.push(url.pathname);
    const name = /^\/(?:api\/models\/)?(org\/[a-z-]+)\//.exec(url.pathname)?.[1] ?? '';
    const files = repositories[name];
    if (!files) return response.writeHead(404).end();
    if (url.pathname.includes('/revision/')) {
      return response.end(JSON.stringify({ _id: '1', id: name, sha: commit, lastModified: '2025-01-01' }));
    }
    if (url.pathname.includes('/tree/')) {
      const rows = Object.entries(files).map(([path, bytes]) => {
        const oid = createHash('sha256')
          .update(name === 'org/corrupt' ? 'other' : bytes)
          .digest('hex');
        const lfs = path.endsWith('.json') ? undefined : { oid, size: bytes.length, pointerSize: 1 };
        return { type: 'file', path, size: bytes.length, oid: 'x', lfs };
      });
      response.setHeader('content-type', 'application/json');
      return response.end(JSON.stringify(rows));
    }
    const bytes = files[url.pathname.split(`${commit}/`)[1] ?? ''];
    if (!bytes) return response.writeHead(404, { 'x-error-code': 'EntryNotFound' }).end();
    const range = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '');
    const start = Number(range?.[1] ?? 0);
    const end = Math.min(bytes.length, range?.[2] ? Number(range[2]) + 1 : bytes.length);
    const headers = { etag: '"x"', 'content-range': `bytes ${start}-${end - 1}/${bytes.length}` };
    return response.writeHead(range ? 206 : 200, headers).end(bytes.subarray(start, end));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  process.env.HF_ENDPOINT = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

after(() => {
  delete process.env.HF_ENDPOINT;
  server.close();
  server.closeAllConnections();
  rmSync(folder, { recursive: true, force: true });
});

const cache = new Cache(folder);

function reference(text: string) {
  const parsed = parseHubReference(text);
  assert.ok(parsed, text);
  return parsed;
}

test('references: repository, revision, file; nothing that is a path', () => {
  assert.deepEqual(parseHubReference('a/b'), { repository: 'a/b', revision: 'main', file: undefined });
  assert.deepEqual(parseHubReference('a/b@v1:x.gguf'), { repository: 'a/b', revision: 'v1', file: 'x.gguf' });
  for (const text of ['a', '/a/b', '../a', 'a/b/c', 'a/b@../x', 'a/b:../../x.gguf']) {
    assert.equal(parseHubReference(text), undefined, text);
  }
});

test('downloads only what a model needs, and finds it again without a network', async () => {
  const path = await downloadSnapshot(cache, reference('org/plain'), silentReporter);
  assert.deepEqual(readdirSync(path).sort(), ['config.json', 'model.safetensors', 'snapshot.json']);
  assert.equal(readFileSync(join(path, 'model.safetensors'), 'utf8'), 'weights');
  const before = requests.length;
  assert.equal(cachedSnapshot(cache, reference('org/plain')), path);
  assert.equal(requests.length, before);
});

test('a repository with one GGUF file is that file; with several, one must be named', async () => {
  const path = await downloadSnapshot(cache, reference('org/one-gguf'), silentReporter);
  assert.equal(readFileSync(path, 'utf8'), 'GGUF one');
  assert.equal(cachedSnapshot(cache, reference('org/one-gguf')), path);
  await assert.rejects(
    downloadSnapshot(cache, reference('org/many-gguf'), silentReporter),
    /org\/many-gguf:a\.gguf/,
  );
  const named = await downloadSnapshot(cache, reference('org/many-gguf:b.gguf'), silentReporter);
  assert.equal(readFileSync(named, 'utf8'), 'GGUF b');
});

test('a file that does not match its hash is refused and not kept', async () => {
  await assert.rejects(downloadSnapshot(cache, reference('org/corrupt'), silentReporter), {
    code: 'DOWNLOAD_CORRUPT',
  });
  assert.equal(cachedSnapshot(cache, reference('org/corrupt')), undefined);
  assert.deepEqual(readdirSync(join(folder, 'hub', 'org--corrupt', commit)), ['config.json']);
});

test('an unknown repository and a dead hub say what to do', async () => {
  await assert.rejects(
    downloadSnapshot(cache, reference('org/absent'), silentReporter),
    /has no org\/absent at revision/,
  );
  const endpoint = process.env.HF_ENDPOINT;
  process.env.HF_ENDPOINT = 'http://127.0.0.1:1';
  await assert.rejects(
    downloadSnapshot(cache, reference('org/plain'), silentReporter),
    /cannot reach the Hugging Face hub/,
  );
  process.env.HF_ENDPOINT = endpoint;
});
