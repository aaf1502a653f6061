import { Command, InvalidArgumentError, Option } from 'commander';
import { concurrencyMax, plannedTokensMax, requestsMax } from '../../load/limits.ts';
import { addCommonOptions, latenciesOption } from '../measure/options.ts';
import { integerOption, numberOption, portOption } from '../values.ts';
import type { ServingFlags } from './serving-run.ts';

const examples = `
Examples:
  nereid bench serving --backend openai-chat --port 8000 --num-prompts 200 --request-rate 8
  nereid bench serving --dataset-name sharegpt --dataset-path sharegpt.json --max-concurrency 32 --save-result
  nereid bench serving --dataset-name random --random-input-len 512 --random-output-len 64 --ignore-eos --output run.json

Options, metrics and the JSON's fields are those of vLLM's bench serve: docs/measuring.md`;

/** `nereid bench serving` */
export function servingCommand(): Command {
  const command = new Command('serving').description(
    'Online serving benchmark with the options, metrics and result file of vLLM\'s "bench serve".',
  );
  const backends = ['openai', 'vllm', 'openai-chat', 'triton-generate', 'kserve-grpc', 'briton'];
  const length = integerOption(0, plannedTokensMax);
  command
    .addOption(new Option('--backend <name>', 'protocol to speak').choices(backends).default('openai'))
    .option('--base-url <url>', 'the server, instead of --host and --port')
    .option('--host <name>', 'its host', '127.0.0.1')
    .option('--port <n>', 'its port', portOption, 8000)
    .option('--endpoint <path>', "path of the endpoint (default: the backend's)")
    .option('--model <name>', 'model to ask for (default: the first that the server lists)')
    .option('--tokenizer <folder>', 'folder with tokenizer.json, for exact prompt lengths')
    .addOption(
      new Option('--dataset-name <name>', 'where prompts come from')
        .choices(['random', 'sharegpt', 'custom', 'instruction', 'prefix_repetition'])
        .default('random'),
    )
    .option('--dataset-path <file>', 'the dataset')
    .option('--num-prompts <n>', 'requests', integerOption(1, requestsMax), 1000)
    .option('--request-rate <x>', 'arrivals a second; inf: all at once', rateOption, Number.POSITIVE_INFINITY)
    .option(
      '--burstiness <x>',
      '1: Poisson; below: burstier; above: more regular',
      numberOption(1e-3, 1e6),
      1,
    )
    .option('--max-concurrency <n>', 'requests in flight at most', integerOption(1, concurrencyMax))
    .option('--num-warmups <n>', 'requests before the measurement', integerOption(0, requestsMax), 1)
    .option('--seed <n>', 'of prompts and arrivals', integerOption(0, 2 ** 32 - 1), 0)
    .option('--random-input-len <n>', 'prompt length', length, 1024)
    .option('--random-output-len <n>', 'answer length', length, 128)
    .option(
      '--random-range-ratio <x>',
      'lengths are uniform within this share around them',
      numberOption(0, 1),
      0,
    )
    .option('--random-prefix-len <n>', 'tokens that all prompts begin with', length, 0)
    .option('--prefix-repetition-prefix-len <n>', 'length of a shared beginning', length, 256)
    .option('--prefix-repetition-suffix-len <n>', 'tokens behind it', length, 256)
    .option('--prefix-repetition-num-prefixes <n>', 'how many beginnings', integerOption(1, 1_000_000), 10)
    .option('--prefix-repetition-output-len <n>', 'answer length', length, 128)
    .option(
      '--sharegpt-output-len <n>',
      "answer length (default: the dataset's)",
      integerOption(1, plannedTokensMax),
    )
    .option('--custom-output-len <n>', 'answer length (default: 256)', integerOption(1, plannedTokensMax))
    .option('--percentile-metrics <list>', 'latencies in the table', latenciesOption, ['ttft', 'tpot', 'itl'])
    .option('--save-result', 'write the JSON under a name made of backend, rate, model and date')
    .option('--save-detailed', "and vLLM's lists of every request's lengths, TTFT, gaps and text")
    .option('--result-dir <folder>', 'where --save-result writes', '.')
    .option('--result-filename <name>', 'its name');
  return addCommonOptions(command)
    .addHelpText('after', examples)
    .action(async (flags: ServingFlags) => {
      const { runServing } = await import('./serving-run.ts');
      await runServing(flags);
    });
}

function rateOption(text: string): number {
  if (text === 'inf') return Number.POSITIVE_INFINITY;
  const value = Number(text);
  if (text.trim() !== '' && value > 0) return value;
  throw new InvalidArgumentError('It takes a number above 0, or inf.');
}
