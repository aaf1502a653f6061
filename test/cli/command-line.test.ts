import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { commands } from '../../src/cli/commands.ts';
import { runCli } from '../support/run-cli.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-cli-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const env = { NEREID_CACHE: join(folder, 'cache'), NEREID_OFFLINE: '1' };

/** One `nereid: …` line on stderr and nothing else. */
function assertOneLine(stderr: string, pattern: RegExp): void {
  assert.match(stderr, /^nereid: [^\n]+\n$/);
  assert.match(stderr, pattern);
}

test('--help lists every command with examples', async () => {
  const { code, stdout, stderr } = await runCli(['--help'], { env });
  assert.equal(code, 0);
  assert.equal(stderr, '');
  for (const name of Object.keys(commands)) assert.match(stdout, new RegExp(`^  ${name} `, 'm'));
  assert.match(stdout, /Examples:/);
});

test('--version prints the version of package.json', async () => {
  const { code, stdout } = await runCli(['--version'], { env });
  assert.equal(code, 0);
  assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
});

for (const name of Object.keys(commands)) {
  test(`${name} --help has usage and options`, async () => {
    const { code, stdout } = await runCli([name, '--help'], { env });
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`^Usage: nereid ${name} `));
    assert.match(stdout, /--verbose/);
  });
}

test('a mistyped command or option exits 2 and gets the nearest one', async () => {
  const command = await runCli(['buidl'], { env });
  assert.equal(command.code, 2);
  assertOneLine(command.stderr, /unknown command 'buidl' \(Did you mean build\?\)/);
  const option = await runCli(['build', '--dtpye', 'q8_0'], { env });
  assert.equal(option.code, 2);
  assertOneLine(option.stderr, /unknown option '--dtpye' \(Did you mean --dtype\?\)/);
});

test('a wrong value exits 2 and names the allowed ones', async () => {
  const dtype = await runCli(['build', 'x', '--dtype', 'q9'], { env });
  assert.equal(dtype.code, 2);
  assertOneLine(dtype.stderr, /Allowed choices are auto, f32, .*see nereid build --help/);
  const tokens = await runCli(['generate', 'x', '--max-tokens', 'many'], { env });
  assert.equal(tokens.code, 2);
  assertOneLine(tokens.stderr, /--max-tokens.*integer from 1/);
});

test('no command at all shows the help and exits 2', async () => {
  const { code, stderr } = await runCli([], { env });
  assert.equal(code, 2);
  assert.match(stderr, /Usage: nereid/);
});

test('a missing file or model exits 1 with one line and a code; --verbose adds the stack', async () => {
  const file = await runCli(['build', './absent.gguf'], { env, cwd: folder });
  assert.equal(file.code, 1);
  assertOneLine(file.stderr, /absent\.gguf does not exist; check the path \[MODEL_NOT_FOUND\]/);
  const name = await runCli(['build', 'smolm2'], { env, cwd: folder });
  assert.equal(name.code, 1);
  assertOneLine(name.stderr, /did you mean 'smollm2'/);
  const verbose = await runCli(['build', './absent.gguf', '--verbose'], { env, cwd: folder });
  assert.match(verbose.stderr, /\n {4}at /);
});

test('a missing prompt or model is a usage error', async () => {
  const build = await runCli(['build'], { env, cwd: folder });
  assert.equal(build.code, 2);
  assertOneLine(build.stderr, /what to build from\?/);
});

test('it runs through a symbolic link, from any folder', async () => {
  const link = join(folder, 'nereid');
  symlinkSync(join(packageRoot, 'bin', 'nereid'), link);
  const { code, stdout } = await runCli(['version', '--json'], { env, cwd: '/', program: link });
  assert.equal(code, 0);
  assert.equal(JSON.parse(stdout).engineFormat, 1);
});

test('doctor --json: every row has a status, and a fix where something is wrong', async () => {
  const { code, stdout } = await runCli(['doctor', '--json'], { env });
  const report = JSON.parse(stdout);
  assert.equal(code, report.canRun ? 0 : 1);
  for (const check of report.checks) {
    assert.match(check.status, /^(ok|warn|fail)$/);
    if (check.status !== 'ok') assert.ok(check.fix, check.name);
  }
  const names = report.checks.map((check: { name: string }) => check.name);
  for (const name of ['Node.js', 'CPU', 'memory', 'device ggml', 'NVIDIA GPU', 'cache', 'pip']) {
    assert.ok(names.includes(name), name);
  }
});

test('doctor as a table names the same rows', async () => {
  const { stdout } = await runCli(['doctor'], { env });
  assert.match(stdout, /device ggml/);
  assert.match(stdout, /This machine can/);
});

test('models lists the catalogue, and prunes an empty cache', async () => {
  const listed = JSON.parse((await runCli(['models', '--json'], { env })).stdout);
  assert.ok(listed.models.some((model: { isDefault: boolean }) => model.isDefault));
  assert.equal(listed.cache, env.NEREID_CACHE);
  const pruned = await runCli(['models', '--prune', '1GB'], { env });
  assert.equal(pruned.code, 0);
  const wrong = await runCli(['models', '--prune', 'some'], { env });
  assert.equal(wrong.code, 2);
  assertOneLine(wrong.stderr, /500MB or 2GB/);
});
