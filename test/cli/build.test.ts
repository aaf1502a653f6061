import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openGguf } from '../../src/checkpoint/gguf-reader.ts';
import { writeGguf } from '../../src/checkpoint/gguf-writer.ts';
import { readTensor } from '../../src/checkpoint/tensor-file.ts';
import { runCli } from '../support/run-cli.ts';
import { sharedPath, skipWithout } from '../support/shared.ts';

const skip = skipWithout('models/stories260K');
const folder = mkdtempSync(join(tmpdir(), 'nereid-cli-build-'));
const env = { NEREID_CACHE: join(folder, 'cache'), NEREID_OFFLINE: '1' };
const stories = sharedPath('models/stories260K');
const wide = join(folder, 'wide.gguf');
after(() => rmSync(folder, { recursive: true, force: true }));

/** stories260K with a feed-forward network so wide that building it takes long enough to be interrupted. */
before(async () => {
  if (skip) return;
  const width = 65_536;
  const small = openGguf(join(stories, 'stories260K-f32.gguf'));
  const metadata = [...small.metadata].map(([key, value]) =>
    key === 'llama.feed_forward_length'
      ? ([key, { type: 'u32', value: width }] as const)
      : ([key, value] as const),
  );
  const zeros = Buffer.alloc(width * 64 * 4);
  const tensors = [...small.tensors.values()].map(({ name, dtype, shape, ...rest }) => {
    if (!name.includes('.ffn_') || name.includes('norm')) {
      return { name, dtype, shape, data: () => [readTensor({ name, dtype, shape, ...rest })] };
    }
    return { name, dtype, shape: name.includes('down') ? [64, width] : [width, 64], data: () => [zeros] };
  });
  await writeGguf(wide, { metadata, tensors });
});

/** Sends a signal as soon as the builder's half-made folder is there. */
function interrupt(parent: string, signal: NodeJS.Signals): (child: ChildProcess) => void {
  return (child) => {
    const timer = setInterval(() => {
      if (child.exitCode !== null) clearInterval(timer);
      if (!readdirSync(parent).some((name) => name.includes('.partial-'))) return;
      clearInterval(timer);
      child.kill(signal);
    }, 2);
  };
}

test('build says what it made and how to serve it; --verify checks it; --force replaces it', {
  skip,
}, async () => {
  const built = await runCli(['build', stories, '--dtype', 'q8_0', '--output', 'engine'], {
    cwd: folder,
    env,
  });
  assert.equal(built.code, 0, built.stderr);
  assert.match(built.stdout, /^Built engine: llama.*\nServe it: nereid serve engine\n$/);
  assert.match(built.stderr, /blk\.0\.ffn_down\.weight is stored as f16: rows of 172/);
  const verified = await runCli(['build', 'engine', '--verify'], { cwd: folder, env });
  assert.equal(verified.code, 0, verified.stderr);
  assert.match(verified.stdout, /engine is intact/);
  const again = await runCli(['build', stories, '--output', 'engine'], { cwd: folder, env });
  assert.equal(again.code, 1);
  assert.match(again.stderr, /already holds an engine; pass --force/);
  const forced = await runCli(['build', stories, '--output', 'engine', '--force', '--quiet'], {
    cwd: folder,
    env,
  });
  assert.equal(forced.code, 0);
  assert.equal(forced.stderr, '');
});

test('a config file is heeded, relative to itself, and flags override it', { skip }, async () => {
  const place = join(folder, 'configs');
  mkdirSync(place);
  writeFileSync(
    join(place, 'build.yaml'),
    `model: ${stories}\noutput: made\nname: bard\ndtype: f16\nkvDtype: f32\n`,
  );
  const config = ['build', '--config', join(place, 'build.yaml'), '--dtype', 'bf16'];
  const { code, stderr } = await runCli(config, { cwd: folder, env });
  assert.equal(code, 0, stderr);
  const manifest = JSON.parse(readFileSync(join(place, 'made', 'engine.json'), 'utf8'));
  assert.equal(manifest.name, 'bard');
  assert.equal(manifest.kvDtype, 'f32');
  assert.equal(manifest.recipe.dtype, 'bf16');
});

test('kill -9 in the middle leaves nothing that loads, and the next build cleans up', { skip }, async () => {
  const place = join(folder, 'killed');
  mkdirSync(place);
  const command = ['build', wide, '--dtype', 'q8_0', '--output', join(place, 'out')];
  const { signal } = await runCli(command, { env, onStart: interrupt(place, 'SIGKILL') });
  assert.equal(signal, 'SIGKILL');
  assert.equal(existsSync(join(place, 'out')), false);
  const partial = readdirSync(place).find((name) => name.includes('.partial-'));
  assert.ok(partial);
  const verify = await runCli(['build', join(place, partial), '--verify'], { env });
  assert.notEqual(verify.code, 0);
  const { code, stderr } = await runCli(command, { env });
  assert.equal(code, 0, stderr);
  assert.deepEqual(readdirSync(place), ['out']);
});

test('Ctrl-C in the middle leaves nothing and exits 130', { skip }, async () => {
  const place = join(folder, 'interrupted');
  mkdirSync(place);
  const command = ['build', wide, '--dtype', 'q8_0', '--output', join(place, 'out')];
  const { code, stderr } = await runCli(command, { env, onStart: interrupt(place, 'SIGINT') });
  assert.equal(code, 130, stderr);
  assert.deepEqual(readdirSync(place), []);
});

test('generate builds what is no engine yet, once, and prints the story', { skip }, async () => {
  const command = ['generate', stories, '--raw', '--prompt', 'Once upon a time', '-n', '20', '-t', '0'];
  const first = await runCli(command, { env });
  assert.equal(first.code, 0, first.stderr);
  assert.match(first.stderr, /Building the engine of stories260K/);
  const second = await runCli(command, { env });
  assert.equal(second.code, 0, second.stderr);
  assert.doesNotMatch(second.stderr, /Building/);
  assert.equal(second.stdout, first.stdout);
  const golden = JSON.parse(readFileSync(join(stories, 'golden.json'), 'utf8'));
  assert.ok(JSON.stringify(golden).includes(JSON.stringify(first.stdout.trim()).slice(1, 40)), first.stdout);
  const piped = await runCli(['generate', stories, '--raw', '-n', '20', '-t', '0', '-q'], {
    env,
    input: 'Once upon a time',
  });
  assert.equal(piped.stdout, first.stdout);
  assert.equal(piped.stderr, '');
});

test('generate explains a missing chat template', { skip }, async () => {
  const { code, stderr } = await runCli(['generate', stories, '--prompt', 'Hello', '-q'], { env });
  assert.equal(code, 1);
  assert.match(stderr, /no chat template; .*pass --raw/);
});
