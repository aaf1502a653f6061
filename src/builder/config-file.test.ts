import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { recipeOf } from './config.ts';
import { loadBuildConfig } from './config-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-config-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function write(text: string): string {
  const path = join(folder, 'build.yaml');
  writeFileSync(path, text);
  return path;
}

test('a config file gives defaults to what it leaves out, and flags override it', () => {
  const path = write(
    'model: ./checkpoint\ndtype: q8_0\ntensors:\n  - pattern: "blk.*.attn_v.weight"\n    dtype: f16\n',
  );
  const config = loadBuildConfig(path, { dtype: 'q4_0', output: undefined });
  assert.equal(config.dtype, 'q4_0');
  assert.equal(config.model, './checkpoint');
  assert.equal(config.target, 'ggml');
  assert.deepEqual(config.tensors, [{ pattern: 'blk.*.attn_v.weight', dtype: 'f16' }]);
  assert.deepEqual(Object.keys(recipeOf(config)), [
    'target',
    'dtype',
    'tensors',
    'tensorParallel',
    'pipelineParallel',
    'kvDtype',
  ]);
});

test('an empty config is all defaults', () => {
  assert.equal(loadBuildConfig(write('')).dtype, 'auto');
});

test('an unknown key is refused with its line and the nearest known key', () => {
  const path = write('model: x\n\ndytpe: q8_0\n');
  assert.throws(
    () => loadBuildConfig(path),
    /build\.yaml:3:\d+: unknown key 'dytpe'; did you mean 'dtype'\?/,
  );
});

test('an unknown key inside a tensor rule is refused with its line', () => {
  const path = write('tensors:\n  - patern: "*"\n    dtype: f16\n');
  assert.throws(
    () => loadBuildConfig(path),
    /build\.yaml:2:\d+: unknown key 'patern' in tensors\.0; did you mean 'pattern'\?/,
  );
});

test('a wrong value is refused with its line, the known values and the nearest', () => {
  const path = write('model: x\ndtype: q8_O\n');
  assert.throws(
    () => loadBuildConfig(path),
    /build\.yaml:2:8: dtype is 'q8_O'; known: auto, f32.*did you mean 'q8_0'\?/,
  );
});

test('a value of the wrong type names its line; one from the command line names its flag', () => {
  assert.throws(
    () => loadBuildConfig(write('contextLengthMax: many\n')),
    /build\.yaml:1:19: contextLengthMax/,
  );
  assert.throws(
    () => loadBuildConfig(undefined, { contextLengthMax: -1 }),
    /--context-length-max: contextLengthMax/,
  );
});

test('broken YAML, a list, a missing and an oversized file are refused', () => {
  assert.throws(() => loadBuildConfig(write('a: [1, 2\nb: }')), {
    code: 'BUILD_CONFIG_SYNTAX',
    message: /build\.yaml:\d+:\d+/,
  });
  assert.throws(() => loadBuildConfig(write('- a\n')), { code: 'BUILD_CONFIG_INVALID' });
  assert.throws(() => loadBuildConfig(join(folder, 'absent.yaml')), { code: 'BUILD_CONFIG_NOT_FOUND' });
  assert.throws(() => loadBuildConfig(write('x'.repeat(1024 * 1024 + 1))), { code: 'BUILD_CONFIG_INVALID' });
});
