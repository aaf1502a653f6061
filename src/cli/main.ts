import { Command, CommanderError } from 'commander';
import { packageVersion } from '../base/package-version.ts';
import { withDashes } from './client-flags.ts';
import { type CommandRow, commands } from './commands.ts';
import { exitCodes, reportError } from './errors.ts';

const examples = `
Examples:
  nereid serve smollm2-135m-instruct --http-port 8000     a catalogue model behind the OpenAI protocol
  nereid generate ./model.gguf --prompt "Hello"           one answer from a GGUF file
  nereid build ./hf-folder --dtype q8_0 --output engine   an engine from a Hugging Face checkpoint
  nereid doctor                                           what this machine can run

Exit status: 0 done, 1 failed, 2 wrong command line, 130 interrupted. NEREID_DEBUG=1 prints stack traces.
Documentation: docs/cli.md`;

/** Runs `nereid` with these arguments and sets the process's exit status. Never throws. */
export async function main(argv: readonly string[]): Promise<void> {
  endQuietlyWhenReaderLeaves();
  try {
    await run(argv);
  } catch (thrown) {
    process.exitCode = exitCodeOf(thrown);
  }
}

/** `nereid … | head` closes our stdout early: that is the reader's right and no error. */
function endQuietlyWhenReaderLeaves(): void {
  process.stdout.on('error', (thrown: NodeJS.ErrnoException) => {
    if (thrown.code === 'EPIPE') process.exit(exitCodes.ok);
    throw thrown;
  });
}

async function run(argv: readonly string[]): Promise<void> {
  const program = createProgram();
  const asked = argv.find((argument) => !argument.startsWith('-'));
  const help = asked === 'help' ? argv[argv.indexOf('help') + 1] : undefined;
  for (const [name, row] of Object.entries(commands)) {
    const wanted = name === asked || name === help;
    program.addCommand(wanted ? await loadCommand(name, row) : placeholder(name, row));
  }
  await program.parseAsync(asked === 'client' ? withDashes(argv) : argv, { from: 'user' });
}

function createProgram(): Command {
  const program = new Command('nereid');
  program
    .description(
      'Compiles LLM checkpoints into engines, serves them with in-flight batching, and measures them.',
    )
    .version(packageVersion(), '-V, --version', 'print the version')
    .option('--verbose', 'print stack traces with errors')
    .addHelpText('after', examples)
    .showSuggestionAfterError(true)
    .enablePositionalOptions(false);
  return settle(program);
}

/** The command with its options, and every global setting that commander does not pass down by itself. */
async function loadCommand(name: string, row: CommandRow): Promise<Command> {
  const module = await row.load();
  const command = module.createCommand().name(name).summary(row.summary);
  if (!command.options.some((option) => option.long === '--verbose')) {
    command.option('--verbose', 'print stack traces with errors');
  }
  return settle(command);
}

/** Stands in the list of `nereid --help` for a command that was not asked for, so its module need not load. */
function placeholder(name: string, row: CommandRow): Command {
  return settle(new Command(name)).summary(row.summary).usage(row.usage);
}

/** Errors as one `nereid: …` line, thrown instead of exiting, with the nearest known name and where to look. */
function settle(command: Command): Command {
  command.commands.forEach(settle);
  return command
    .exitOverride()
    .showSuggestionAfterError(true)
    .configureOutput({
      outputError: (text, write) => {
        const line = text
          .replace(/^error: /, '')
          .trim()
          .replaceAll(/\s*\n\s*/g, ' ')
          .replace(/\.$/, '');
        write(`nereid: ${line}${line.endsWith('?)') ? '' : `; see nereid ${helpTopic(command)}--help`}\n`);
      },
    });
}

function helpTopic(command: Command): string {
  return command.parent ? `${helpTopic(command.parent)}${command.name()} ` : '';
}

function exitCodeOf(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  return reportError(thrown);
}
