import type { Command } from 'commander';
import { CliError } from './errors.ts';

/** One command, as far as completing it goes. */
export interface CompletableCommand {
  summary: string;
  load(): Promise<{ createCommand(): Command }>;
}

/** What may follow a command: its subcommands, and its options with their values where they are few. */
interface Completion {
  /** As typed: `bench serving`; '' for nereid itself. */
  path: string;
  words: string[];
  summaries: Readonly<Record<string, string>>;
}

/** The script that a shell reads. @throws CliError CLI_VALUE_INVALID for make in a shell that needs none */
export async function completionScript(
  commands: Readonly<Record<string, CompletableCommand>>,
  shell: 'bash' | 'zsh' | 'fish',
  isForMake: boolean,
): Promise<string> {
  if (isForMake) {
    if (shell === 'bash') return makeScript;
    throw new CliError('CLI_VALUE_INVALID', `${shell} completes make's targets by itself; leave out --make`);
  }
  const known = await completions(commands);
  if (shell === 'bash') return bashScript(known);
  return shell === 'zsh' ? zshScript(known) : fishScript(known);
}

async function completions(commands: Readonly<Record<string, CompletableCommand>>): Promise<Completion[]> {
  const rows = Object.entries(commands);
  const top: Completion = {
    path: '',
    words: [...rows.map(([name]) => name), '--help', '--version', '--verbose'],
    summaries: Object.fromEntries(rows.map(([name, { summary }]) => [name, summary])),
  };
  const below = await Promise.all(
    rows.map(async ([name, row]) => (await row.load()).createCommand().name(name)),
  );
  return [top, ...below.flatMap((command) => completionsOf(command, command.name()))];
}

function completionsOf(command: Command, path: string): Completion[] {
  const options = command.options.filter(({ long }) => long);
  const words = [
    ...command.commands.map((one) => one.name()),
    ...options.map(({ long }) => long as string),
    '--help',
  ];
  const summaries = {
    ...Object.fromEntries(command.commands.map((one) => [one.name(), one.description()])),
    ...Object.fromEntries(options.map(({ long, description }) => [long as string, description])),
  };
  const below = command.commands.flatMap((one) => completionsOf(one, `${path} ${one.name()}`));
  return [{ path, words, summaries }, ...below];
}

function bashScript(known: readonly Completion[]): string {
  const cases = known.map(({ path, words }) => `    '${path}') words='${words.join(' ')}' ;;`);
  return `# bash completion for nereid
_nereid() {
  local current=\${COMP_WORDS[COMP_CWORD]} path='' words='' at word
  for ((at = 1; at < COMP_CWORD; at++)); do
    word=\${COMP_WORDS[at]}
    case "$path $word" in
${nestedPaths(known)
  .map(
    (path) =>
      `      ' ${path}') path='${path}' ;;\n      '${path.split(' ').slice(0, -1).join(' ')} ${path.split(' ').at(-1)}') path='${path}' ;;`,
  )
  .join('\n')}
    esac
  done
  case "$path" in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ $current == -* || \${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$current"))
}
complete -o filenames -F _nereid nereid
`;
}

function nestedPaths(known: readonly Completion[]): string[] {
  return known.map(({ path }) => path).filter((path) => path !== '');
}

function zshScript(known: readonly Completion[]): string {
  const cases = known.map(({ path, words, summaries }) => {
    const lines = words.map((word) => `      '${word}:${clean(summaries[word] ?? '')}'`);
    return `    '${path}') choices=(\n${lines.join('\n')}\n    ) ;;`;
  });
  const paths = nestedPaths(known).map((path) => `'${path}'`);
  return `#compdef nereid
_nereid() {
  local -a choices known
  local at try command=''
  known=(${paths.join(' ')})
  for ((at = 2; at < CURRENT; at++)); do
    try="\${command:+$command }\${words[at]}"
    (( \${known[(Ie)$try]} )) && command=$try
  done
  case "$command" in
${cases.join('\n')}
  esac
  _describe 'nereid' choices || _files
}
compdef _nereid nereid
`;
}

/** Descriptions in zsh's and fish's quotes: no quotes, and no colons, which end a word there. */
function clean(text: string): string {
  return text.replaceAll("'", '’').replaceAll(':', ' –').replaceAll('\n', ' ');
}

function fishScript(known: readonly Completion[]): string {
  const lines = known.flatMap(({ path, words, summaries }) => {
    const parts = path === '' ? [] : path.split(' ');
    const below = known.filter(
      (other) => other.path.startsWith(path === '' ? '' : `${path} `) && other.path !== path,
    );
    const next = new Set(below.map((other) => other.path.split(' ')[parts.length]));
    const seen = parts.map((part) => `__fish_seen_subcommand_from ${part}`);
    const notBelow = next.size > 0 ? [`not __fish_seen_subcommand_from ${[...next].join(' ')}`] : [];
    const condition = [...seen, ...notBelow].join('; and ');
    return words.map((word) => {
      const what = word.startsWith('--') ? `-l ${word.slice(2)}` : `-f -a ${word}`;
      const when = condition === '' ? '' : ` -n '${condition}'`;
      return `complete -c nereid${when} ${what} -d '${clean(summaries[word] ?? '')}'`;
    });
  });
  return `# fish completion for nereid\n${lines.join('\n')}\n`;
}

/** Targets are the words before a colon at a line's beginning, of the Makefile in the current folder. */
const makeScript = `# bash completion for the targets of make
_nereid_make() {
  local file targets
  for file in GNUmakefile makefile Makefile; do
    [ -f "$file" ] && break
  done
  targets=$(sed -nE 's/^([A-Za-z0-9_.-]+)[[:space:]]*:([^=].*)?$/\\1/p' "$file" 2>/dev/null | grep -v '^\\.' | sort -u)
  COMPREPLY=($(compgen -W "$targets" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _nereid_make make
`;
