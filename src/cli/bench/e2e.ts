import { Command, Option } from 'commander';
import { concurrencyMax, plannedTokensMax, requestsMax } from '../../load/limits.ts';
import { integerOption } from '../values.ts';
import type { EndToEndFlags } from './e2e-run.ts';

const examples = `
Examples:
  nereid bench e2e --dataset prompts.json --max-input-len 300
  nereid bench e2e --dataset prompts.json --max-input-len 300 --streaming --test-bls -c 32

First every prompt goes through preprocessing, tensorrt_llm and postprocessing one by one, and through the ensemble: the texts must be
equal. Then all prompts are sent to the ensemble, and the total latency is printed: Triton's end_to_end_test.py.`;

/** `nereid bench e2e` */
export function endToEndCommand(): Command {
  return new Command('e2e')
    .description("An ensemble against its own steps, then its total latency: Triton's end_to_end_test.")
    .option('-u, --url <address>', "the server (default: the protocol's usual port on this machine)")
    .addOption(
      new Option('-i, --protocol <name>', 'protocol; http answers for models that are not decoupled')
        .choices(['grpc', 'http'])
        .default('grpc'),
    )
    .option('-c, --concurrency <n>', 'requests in flight at most', integerOption(1, concurrencyMax), 128)
    .requiredOption('--max-input-len <n>', 'leave out longer prompts', integerOption(1, plannedTokensMax))
    .requiredOption('--dataset <file>', 'a JSON list of instruction, input, output')
    .option('--tokenizer-dir <folder>', 'folder with tokenizer.json, to count prompts exactly')
    .option('--num-requests <n>', 'prompts at most (default: all)', integerOption(1, requestsMax))
    .option('--model-name <name>', 'the model that is the whole', 'ensemble')
    .option('--test-bls', 'tensorrt_llm_bls must answer the same')
    .option('--streaming', 'ask for answers in pieces in the second half (grpc)')
    .addHelpText('after', examples)
    .action(async (flags: EndToEndFlags) => {
      const { runEndToEnd } = await import('./e2e-run.ts');
      await runEndToEnd(flags);
    });
}
