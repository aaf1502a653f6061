import { Command, Option } from 'commander';
import type { CompletableCommand } from './completion-script.ts';

const examples = `
Examples:
  source <(nereid completion bash)                          in ~/.bashrc
  source <(nereid completion bash --make)                   and for the targets of make
  nereid completion zsh > "\${fpath[1]}/_nereid"
  nereid completion fish > ~/.config/fish/completions/nereid.fish

zsh and fish complete make's targets by themselves.`;

/** `nereid completion` */
export function completionCommand(commands: Readonly<Record<string, CompletableCommand>>): Command {
  return new Command()
    .description('Prints a completion script for a shell.')
    .addArgument(new Command().createArgument('<shell>', 'the shell').choices(['bash', 'zsh', 'fish']))
    .addOption(new Option('--make', "bash: the targets of make, of the folder's Makefile, instead"))
    .addHelpText('after', examples)
    .action(async (shell: 'bash' | 'zsh' | 'fish', { make }: { make?: boolean }) => {
      const { completionScript } = await import('./completion-script.ts');
      process.stdout.write(await completionScript(commands, shell, make === true));
    });
}
