import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { commands } from '../../src/cli/commands.ts';
import { completionScript } from '../../src/cli/completion-script.ts';

/** What bash would offer for a line with the cursor at its end. */
function offered(script: string, line: string, completer: string): string[] {
  const words = line.split(' ');
  const program = `${script}
COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}
${completer}; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const run = spawnSync('bash', ['-c', program], { cwd: packageRoot, encoding: 'utf8' });
  assert.equal(run.status, 0, run.stderr);
  return run.stdout.trim().split('\n');
}

test('bash: commands, options, subcommands and their options, files', async () => {
  const script = await completionScript(commands, 'bash', false);
  assert.deepEqual(offered(script, 'nereid ser', '_nereid'), ['serve']);
  assert.deepEqual(offered(script, 'nereid serve --briton', '_nereid'), ['--briton-port', '--briton-config']);
  assert.deepEqual(offered(script, 'nereid bench ser', '_nereid'), ['serving']);
  assert.ok(offered(script, 'nereid bench serving --request', '_nereid').includes('--request-rate'));
  assert.ok(offered(script, 'nereid trace summary pack', '_nereid').includes('package.json'));
});

test("bash: make's targets", async () => {
  const script = await completionScript(commands, 'bash', true);
  assert.deepEqual(offered(script, 'make run_cl', '_nereid_make'), ['run_client']);
  assert.ok(!offered(script, 'make ', '_nereid_make').some((word) => word.includes('MODEL')));
});

test('zsh and fish: every command and option is named; the scripts parse where the shell is there', async () => {
  for (const shell of ['zsh', 'fish'] as const) {
    const script = await completionScript(commands, shell, false);
    for (const word of ['serve', 'briton-port', 'to-perfetto', 'request-rate'])
      assert.match(script, new RegExp(word));
    const check = spawnSync(shell, ['-n'], { input: script, encoding: 'utf8' });
    if (!check.error) assert.equal(check.status, 0, check.stderr);
    await assert.rejects(completionScript(commands, shell, true), { code: 'CLI_VALUE_INVALID' });
  }
});
