import { Command, Option } from 'commander';
import { concurrencyMax, plannedTokensMax, requestsMax } from '../../load/limits.ts';
import { histograms } from '../../load/workload/lengths.ts';
import { integerOption, listOption, numberOption } from '../values.ts';
import type { CoreFlags, CoreWorkload } from './core-run.ts';

const examples = `
Examples:
  nereid bench core --max-input-len 300 --request-rate 10 dataset --dataset prompts.json --tokenizer-dir models/nereid-16m
  nereid bench core --max-input-len 300 --request-rate 10 --num-requests 5000 \\
    token-norm-dist --input-mean 128 --input-stdev 5 --output-mean 20 --output-stdev 2
  nereid bench core --max-input-len 300 -i http token-from-histogram --histogram-key example

Sends token ids to the model tensorrt_llm over KServe's gRPC stream or HTTP, as benchmark_core_model.py does; its printed table.`;

/** `nereid bench core` */
export function coreCommand(): Command {
  const length = integerOption(1, plannedTokensMax);
  const command = new Command('core')
    .description("The engine without tokenizing: Triton's benchmark_core_model.")
    .option('-u, --url <address>', "the server (default: the protocol's usual port on this machine)")
    .addOption(
      new Option('-i, --protocol <name>', 'protocol; http answers for models that are not decoupled')
        .choices(['grpc', 'http', 'briton'])
        .default('grpc'),
    )
    .option('-c, --concurrency <n>', 'requests in flight at most', integerOption(1, concurrencyMax), 128)
    .requiredOption('--max-input-len <n>', 'leave out longer prompts', length)
    .option('--tensorrt-llm-model-name <name>', 'model; repeatable: drawn at random', listOption, [])
    .option('--request-rate <x>', 'arrivals a second; -1: all at once', numberOption(-1, 1e6), -1)
    .addOption(
      new Option('--time-delay-dist <name>', 'how arrivals are spread')
        .choices(['exponential_dist', 'constant'])
        .default('exponential_dist'),
    )
    .option(
      '--num-requests <n>',
      'requests (default: 30000, or as many as the histogram holds)',
      integerOption(1, requestsMax),
    )
    .option('--channels <n>', 'connections', integerOption(1, 1024), 4)
    .option('--seed <n>', 'of ids, lengths and arrivals', integerOption(0, 2 ** 32 - 1), 0)
    .option('--op-stats-csv <file>', 'write the table as CSV')
    .addHelpText('after', examples);
  addWorkloads(command);
  return command;
}

/** The subcommands: where prompts and lengths come from. */
function addWorkloads(command: Command): void {
  const length = integerOption(1, plannedTokensMax);
  const run = async (flags: Record<string, unknown>, subcommand: Command): Promise<void> => {
    const { runCore } = await import('./core-run.ts');
    const workload = subcommand.name() as CoreWorkload;
    await runCore({ ...command.opts(), ...flags } as unknown as CoreFlags, workload);
  };
  command
    .command('dataset')
    .description('prompts from a JSON list of instruction, input, output')
    .requiredOption('--dataset <file>', 'the file')
    .requiredOption('--tokenizer-dir <folder>', 'folder with tokenizer.json')
    .option(
      '--op-tokens-per-word <x>',
      'answer tokens a word of the recorded output',
      numberOption(0.01, 100),
      1.3,
    )
    .action(run);
  command
    .command('token-norm-dist')
    .description('random ids of normally distributed lengths')
    .requiredOption('--input-mean <n>', 'mean prompt length', length)
    .requiredOption('--input-stdev <n>', 'its standard deviation', numberOption(0, plannedTokensMax))
    .requiredOption('--output-mean <n>', 'mean answer length', length)
    .requiredOption('--output-stdev <n>', 'its standard deviation', numberOption(0, plannedTokensMax))
    .option('--vocabulary-size <n>', 'ids to draw from', integerOption(2, 2 ** 31 - 1), 4096)
    .action(run);
  command
    .command('token-from-histogram')
    .description('random ids of lengths as a recorded histogram has them')
    .addOption(
      new Option('--histogram-key <name>', 'which').choices(Object.keys(histograms)).makeOptionMandatory(),
    )
    .option('--vocabulary-size <n>', 'ids to draw from', integerOption(2, 2 ** 31 - 1), 4096)
    .action(run);
}
