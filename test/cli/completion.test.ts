import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { commands } from '../../src/cli/commands.ts';
import { completionScript } from '../../src/cli/completion-script.ts';

const folder = mkdtempSync(join(tmpdir(), 'nereid-completion-'));
after(() => rmSync(folder, { recursive: true }));

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

/** What the two others would offer: fish tells, zsh's `_describe` is taken over. */
const offeredBy = {
  fish: (script: string, line: string) => answer('fish', `${script}\ncomplete -C '${line}'`),
  zsh: (script: string, line: string) =>
    answer(
      'zsh',
      `compdef() {}; _describe() { print -l \${(P)2} | grep "^\${words[CURRENT]}" }
${script}
words=(${line}); CURRENT=\${#words}; _nereid`,
    ),
};

function answer(shell: string, program: string): string[] {
  const run = spawnSync(shell, ['-c', program], { cwd: packageRoot, encoding: 'utf8' });
  // A description follows each word.
  return run.stdout
    .trim()
    .split('\n')
    .map((offer) => offer.split(/[\t:]/)[0] ?? '');
}

test('bash: commands, options, subcommands and their options, files', async () => {
  const script = await completionScript(commands, 'bash', false);
  assert.deepEqual(offered(script, 'nereid ser', '_nereid'), ['serve']);
  const briton = ['--briton-port', '--briton-config', '--briton-schemas'];
  assert.deepEqual(offered(script, 'nereid serve --briton', '_nereid'), briton);
  assert.deepEqual(offered(script, 'nereid bench ser', '_nereid'), ['serving']);
  assert.ok(offered(script, 'nereid bench serving --request', '_nereid').includes('--request-rate'));
  assert.ok(offered(script, 'nereid trace summary pack', '_nereid').includes('package.json'));
});

test("bash: make's targets", async () => {
  const script = await completionScript(commands, 'bash', true);
  assert.deepEqual(offered(script, 'make run_cl', '_nereid_make'), ['run_client']);
  assert.ok(!offered(script, 'make ', '_nereid_make').some((word) => word.includes('MODEL')));
});

test('zsh and fish: every command and option is named; where the shell is there, it completes', async () => {
  for (const shell of ['zsh', 'fish'] as const) {
    const script = await completionScript(commands, shell, false);
    for (const word of ['serve', 'briton-port', 'to-perfetto', 'request-rate'])
      assert.match(script, new RegExp(word));
    const file = join(folder, `nereid.${shell}`);
    writeFileSync(file, script);
    const check = spawnSync(shell, ['-n', file], { encoding: 'utf8' });
    if (!check.error) {
      assert.equal(check.status, 0, check.stderr);
      assert.deepEqual(offeredBy[shell](script, 'nereid bench core token-f'), ['token-from-histogram']);
    }
    await assert.rejects(completionScript(commands, shell, true), { code: 'CLI_VALUE_INVALID' });
  }
});
