import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { keyDigest } from '../../protocol/authentication.ts';
import { readKeyFile } from './key-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-keys-'));
after(() => rmSync(folder, { recursive: true }));

function write(text: string): string {
  const path = join(folder, 'keys.yaml');
  writeFileSync(path, text);
  return path;
}

describe('a file of API keys', () => {
  test('names, keys or their digests, and limits', async () => {
    const path = write(`
keys:
  - name: anna
    key: sk-anna-1234
    requests-per-minute: 60
    tokens-per-minute: 10000
    concurrent-requests: 4
  - name: bert
    key-sha256: ${keyDigest('sk-bert-1234')}
`);
    const [anna, bert] = await readKeyFile(path);
    assert.deepEqual(anna, {
      name: 'anna',
      sha256: keyDigest('sk-anna-1234'),
      requestsPerMinute: 60,
      tokensPerMinute: 10_000,
      concurrentRequests: 4,
    });
    assert.equal(bert?.sha256, keyDigest('sk-bert-1234'));
  });

  test('mistakes are refused with their place', async () => {
    const mistakes: [string, RegExp][] = [
      ['keys: [', /keys\.yaml/],
      ['keys: []', /keys: /],
      ['keys: [{name: a, key: short}]', /keys\.0\.key/],
      ['keys: [{name: a}]', /keys\.0: give either key or key-sha256/],
      ['keys: [{name: a, key: long-enough, rpm: 3}]', /keys\.0: .*rpm/],
      ['keys: [{name: a, key: long-enough, concurrent-requests: 0}]', /concurrent-requests/],
      ['keys: [{name: a, key: long-enough}, {name: a, key: other-enough}]', /two keys have the same name/],
      ['keys: [{name: a, key: long-enough}, {name: b, key: long-enough}]', /two keys have the same key/],
    ];
    for (const [text, expected] of mistakes) {
      await assert.rejects(readKeyFile(write(text)), (error: Error & { code: string }) => {
        assert.match(error.message, expected, text);
        assert.equal(error.code, 'API_KEYS_INVALID');
        // Keys must not end up in logs.
        assert.doesNotMatch(error.message, /long-enough/);
        return true;
      });
    }
    await assert.rejects(readKeyFile(join(folder, 'missing.yaml')), /ENOENT/);
  });
});
