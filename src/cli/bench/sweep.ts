import { Command, InvalidArgumentError, Option } from 'commander';
import { windowsMax } from '../../load/runner/stability.ts';
import { targets } from '../../load/target/registry.ts';
import { addCommonOptions } from '../measure/options.ts';
import { integerOption, numberOption } from '../values.ts';
import type { SweepFlags } from './sweep-run.ts';

/** Levels of one sweep. */
const levelsMax = 1000;

const examples = `
Examples:
  nereid bench sweep --concurrency-range 1:10:2
  nereid bench sweep --request-rate-range 10:100:10 --output-tokens 32 --ignore-eos --html sweep.html

Each level runs until three windows in a row agree (throughput and latency within --stability-percentage of their mean).`;

/** `nereid bench sweep` */
export function sweepCommand(): Command {
  const length = integerOption(1, 2 ** 24);
  const command = new Command('sweep')
    .description('Load at rising concurrency or rate, each level until it is stable, as perf_analyzer does.')
    .addOption(
      new Option('--target <protocol>', 'what to speak').choices(targets.names).default('openai-chat'),
    )
    .option('-u, --url <url>', "the server (default: the protocol's usual port on this machine)")
    .option('-m, --model <name>', 'model to ask for (default: the first that an OpenAI server lists)')
    .option('--concurrency-range <start:end:step>', 'requests in flight', rangeOption)
    .option('--request-rate-range <start:end:step>', 'Poisson arrivals a second', rangeOption)
    .option('--measurement-interval <ms>', 'length of a window', integerOption(10, 3_600_000), 5000)
    .option(
      '--stability-percentage <x>',
      'how far windows may lie from their mean',
      numberOption(0.1, 100),
      10,
    )
    .option('--max-trials <n>', 'windows of a level at most', integerOption(3, windowsMax), 10)
    .option('--input-tokens <n>', 'prompt length', length, 128)
    .option('--output-tokens <n>', 'answer length', length, 128)
    .option('--seed <n>', 'of prompts and arrivals', integerOption(0, 2 ** 32 - 1), 0);
  return addCommonOptions(command)
    .addHelpText('after', examples)
    .action(async (flags: SweepFlags) => {
      const { runSweep } = await import('./sweep-run.ts');
      await runSweep(flags);
    });
}

/** `1:10:2` as [1, 3, 5, 7, 9]; one number is one level. */
function rangeOption(text: string): number[] {
  const [start = Number.NaN, end = start, step = 1] = text.split(':').map(Number);
  if (!(start > 0 && end >= start && step > 0 && (end - start) / step < levelsMax))
    throw new InvalidArgumentError('It takes start:end:step, e.g. 1:10:2.');
  const levels: number[] = [];
  for (let level = start; level <= end; level += step) levels.push(level);
  return levels;
}
