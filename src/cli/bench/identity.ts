import { Command, Option } from 'commander';
import { concurrencyMax, plannedTokensMax } from '../../load/limits.ts';
import { targets } from '../../load/target/registry.ts';
import { integerOption } from '../values.ts';
import type { IdentityFlags } from './identity-run.ts';

/** `nereid bench identity` */
export function identityCommand(): Command {
  const length = integerOption(1, plannedTokensMax);
  return new Command('identity')
    .description(
      "Latency and sentences a second of equal requests in batches, as the backend's identity_test prints them.",
    )
    .addOption(
      new Option('--target <protocol>', 'what to speak').choices(targets.names).default('openai-chat'),
    )
    .option('-u, --url <url>', "the server (default: the protocol's usual port on this machine)")
    .option('-m, --model <name>', 'model to ask for (default: the first that an OpenAI server lists)')
    .option('-b, --batch-size <n>', 'requests at a time', integerOption(1, concurrencyMax), 8)
    .option('-s, --start-len <n>', 'prompt length', length, 8)
    .option('-o, --output-len <n>', 'answer length', length, 10)
    .option('-w, --warm-up <n>', 'batches before the measurement', integerOption(0, 1000), 1)
    .option('-p, --rounds <n>', 'batches', integerOption(1, 100_000), 10)
    .action(async (flags: IdentityFlags) => {
      const { runIdentity } = await import('./identity-run.ts');
      await runIdentity(flags);
    });
}
