import { Command, Option } from 'commander';
import { concurrencyMax, plannedTokensMax, requestsMax, turnsMax } from '../load/limits.ts';
import { targets } from '../load/target/registry.ts';
import type { LoadFlags } from './measure/load-plan.ts';
import { addCommonOptions } from './measure/options.ts';
import { integerOption, listOption, numberOption } from './values.ts';

const examples = `
Examples:
  nereid load --concurrency 16 --requests 200                   the server on port 8000, 16 requests at a time
  nereid load --request-rate 10 --requests 600 -o run.json  Poisson arrivals, ten a second
  nereid load --target openai --output-tokens 32 --ignore-eos --workers 2
  nereid load --dataset prompts.json --dataset-format instruction --goodput ttft:200 tpot:50
  nereid load --target briton --concurrency 64 --channels 4 --detokenize --tokenizer models/nereid-16m
  nereid load --turns 4 --shared-prefixes 8 --shared-prefix-tokens 512

Ctrl-C ends it early and still reports. What each number means: docs/measuring.md`;

/** `nereid load` */
export function createCommand(): Command {
  const command = new Command().description(
    'Sends load to a server and reports latencies and throughput. Without --request-rate a closed loop: so many requests at a time.',
  );
  addLoadOptions(command);
  addWorkloadOptions(command);
  return addCommonOptions(command)
    .addHelpText('after', examples)
    .action(async (flags: LoadFlags) => {
      const { runLoadCommand } = await import('./measure/load-plan.ts');
      await runLoadCommand(flags);
    });
}

function addLoadOptions(command: Command): void {
  const tokenizer =
    'folder with tokenizer.json: exact prompt lengths, and token counts where the server gives none';
  command
    .addOption(
      new Option('--target <protocol>', 'what to speak').choices(targets.names).default('openai-chat'),
    )
    .option('-u, --url <url>', "the server (default: the protocol's usual port on this machine)")
    .option('--endpoint <path>', "path of the endpoint (default: the protocol's)")
    .option('-m, --model <name>', 'model to ask for (default: the first that an OpenAI server lists)')
    .option(
      '-c, --concurrency <n>',
      'requests in flight; with --request-rate at most so many',
      integerOption(1, concurrencyMax),
    )
    .option(
      '-n, --requests <n>',
      'requests (conversations, with --turns) in all',
      integerOption(1, requestsMax),
      100,
    )
    .option('--duration <seconds>', 'start no request after so long', numberOption(0.001, 86_400))
    .option('--request-rate <x>', 'arrivals a second: an open loop', numberOption(1e-6, 1e6))
    .addOption(
      new Option('--arrivals <kind>', 'how arrivals are spread')
        .choices(['poisson', 'constant', 'gamma'])
        .default('poisson'),
    )
    .option(
      '--burstiness <x>',
      'shape of gamma arrivals: below 1 burstier than Poisson',
      numberOption(1e-3, 1e6),
      1,
    )
    .option(
      '--replay <file>',
      'arrivals as recorded: JSON lines or CSV with timestamps; lengths too, without another workload',
    )
    .option('--warmup <n>', 'requests before the measurement', integerOption(0, requestsMax), 1)
    .option(
      '--detokenize',
      'turn ids into text in the client, as Python serving layers do (briton; needs --tokenizer)',
    )
    .option('--keep-text', "keep answers' texts in the JSON")
    .option('--no-stream', 'ask for whole answers')
    .option('--tokenizer <folder>', tokenizer)
    .option(
      '--seed <n>',
      'of arrivals, prompts, lengths and cancellations',
      integerOption(0, 2 ** 32 - 1),
      0,
    );
}

function addWorkloadOptions(command: Command): void {
  const length = (low: number) => integerOption(low, plannedTokensMax);
  command
    .option('--input-tokens <n>', 'mean prompt length', length(1), 128)
    .option(
      '--input-stdev <n>',
      'its standard deviation (normal distribution)',
      numberOption(0, plannedTokensMax),
      0,
    )
    .option('--output-tokens <n>', 'mean answer length (default: 128, or as the dataset says)', length(1))
    .option('--output-stdev <n>', 'its standard deviation', numberOption(0, plannedTokensMax), 0)
    .option('--prompt <text>', 'this prompt; repeatable, in turn', listOption, [])
    .option('--dataset <file>', 'prompts from a file')
    .addOption(
      new Option('--dataset-format <kind>', 'what the file holds')
        .choices(['sharegpt', 'instruction', 'custom'])
        .default('sharegpt'),
    )
    .option(
      '--shared-prefixes <n>',
      'different beginnings that prompts share',
      integerOption(1, 1_000_000),
      1,
    )
    .option('--shared-prefix-tokens <n>', 'their length', length(0), 0)
    .option(
      '--turns <n>',
      'requests of a conversation, each with all before it',
      integerOption(1, turnsMax),
      1,
    )
    .option('--models <name>', 'name one of these models or adapters at random; repeatable', listOption, [])
    .option(
      '--cancel-rate <share>',
      'share of requests to cancel in the middle of their answer',
      numberOption(0, 1),
      0,
    )
    .option('--salt', 'begin every prompt differently, so that no prefix cache helps')
    .option('--token-ids', 'send ids instead of text, where the protocol can')
    .option(
      '--vocabulary-size <n>',
      'ids to draw from, without --tokenizer',
      integerOption(2, 2 ** 31 - 1),
      4096,
    );
}
