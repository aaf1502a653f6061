import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { bindPart, ggmlFunctions } from './ffi.ts';
import { loadGgml } from './library.ts';

test('a folder without ggml is refused by name', () => {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-no-ggml-'));
  assert.throws(() => loadGgml(folder), { code: 'DEVICE_LIBRARY_MISSING', message: /no libggml-base/ });
  rmSync(folder, { recursive: true });
});

test('the installed library has every function of the table, and its types and structs lie as expected', () => {
  const library = loadGgml();
  for (const name of Object.keys(ggmlFunctions))
    assert.equal(typeof library.ggml[name as keyof typeof ggmlFunctions], 'function');
  assert.equal(loadGgml(), library);
  assert.equal(loadGgml(library.folder), library);
  assert.throws(() => loadGgml('/elsewhere'), {
    code: 'DEVICE_LIBRARY_MISMATCH',
    message: /already loaded from/,
  });
});

test('every function that a library lacks is named at once', () => {
  const resolve = (name: string) => {
    if (name === 'ggml_backend_set_n_threads') return undefined;
    if (name === 'ggml_threadpool_new') throw new Error('no such symbol');
    return () => 0;
  };
  assert.throws(() => bindPart('cpu', 'libggml-cpu.so', resolve), {
    code: 'DEVICE_LIBRARY_MISMATCH',
    message: /lacks ggml_backend_set_n_threads, ggml_threadpool_new:/,
  });
});
