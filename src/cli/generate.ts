import { availableParallelism } from 'node:os';
import { Command, Option } from 'commander';
import { kvDtypes } from '../device/device.ts';
import type { GenerateFlags } from './generate-flags.ts';
import { withInterrupt } from './interrupt.ts';
import { threadsMax } from './threads.ts';
import { integerOption, keyValueOption, numberOption } from './values.ts';

const tokensMax = 2 ** 24;

const examples = `
Examples:
  nereid generate smollm2-135m-instruct --prompt "What is gravity?"
  nereid generate ./model.gguf --raw --prompt "Once upon a time" --max-tokens 100 --temperature 0
  echo "Explain rain." | nereid generate ./engine

The text goes to stdout as it is made, everything else to stderr.`;

/** `nereid generate` */
export function createCommand(): Command {
  return new Command()
    .description(
      'Prints one answer of a model, made in this process. Builds the engine first where there is none.',
    )
    .argument('<model>', 'engine folder, .gguf file, Hugging Face folder, catalogue name or hub name')
    .option('-p, --prompt <text>', 'what to answer (default: read from stdin)')
    .option('--system <text>', "the chat's system message")
    .option('--raw', 'continue the prompt as it is, without the chat template')
    .option('-n, --max-tokens <n>', 'tokens to make at most', integerOption(1, tokensMax), 256)
    .option(
      '-t, --temperature <x>',
      "0 always takes the likeliest token (default: the model's advice)",
      numberOption(0, 100),
    )
    .option('--top-k <n>', 'sample among the n likeliest tokens; 0 is all', integerOption(0, tokensMax))
    .option('--top-p <x>', 'sample among the likeliest tokens that make up this share', numberOption(1e-6, 1))
    .option('--min-p <x>', 'drop tokens less likely than x times the likeliest', numberOption(0, 1))
    .option(
      '--repetition-penalty <x>',
      'make tokens that were there already less likely; 1 is none',
      numberOption(0.01, 100),
    )
    .option('--seed <n>', 'make sampling repeatable', integerOption(0, Number.MAX_SAFE_INTEGER))
    .option('--device <name>', 'what runs the model (default: what it was built for, ggml)')
    .option('--device-option <name=value>', 'a setting of the device; repeatable', keyValueOption)
    .option('--threads <n>', 'CPU threads', integerOption(1, threadsMax), availableParallelism())
    .option('--context-length <n>', 'positions of the sequence at most', integerOption(2, tokensMax))
    .addOption(
      new Option('--kv-dtype <type>', "type of the KV cache (default: the engine's)").choices(kvDtypes),
    )
    .option('-q, --quiet', 'only the text')
    .addHelpText('after', examples)
    .action((model: string, flags: GenerateFlags) =>
      withInterrupt(async (signal) => {
        const { runGenerate } = await import('./generate-run.ts');
        await runGenerate(model, flags, signal);
      }),
    );
}
