import { availableParallelism } from 'node:os';
import { Command, Option } from 'commander';
import { buildTargets, modelDtypes } from '../builder/config.ts';
import { kvDtypes } from '../device/device.ts';
import { ranksMax } from '../models/partition.ts';
import type { BuildFlags } from './build-flags.ts';
import { withInterrupt } from './interrupt.ts';
import { threadsMax } from './threads.ts';
import { integerOption, keyValueOption } from './values.ts';

const contextLengthMax = 2 ** 31 - 1;
const seedMax = 999_999_999;

const examples = `
Examples:
  nereid build ./hf-folder --dtype q8_0 --output ./engine
  nereid build model.gguf --dtype q4_k --output ./engine --tensor 'blk.*.attn_v.weight=q8_0'
  nereid build ./hf-folder --target cuda --dtype fp8 --kv-dtype fp8
  nereid build HuggingFaceTB/SmolLM2-135M-Instruct --dtype q8_0
  nereid build --random llama-3.1-8b --dtype fp8 --kv-dtype fp8
  nereid build --config build.yaml --dtype f16        (flags override the file)
  nereid build ./engine --verify                      check every file of an engine against its hash

Types: auto keeps the checkpoint's own; ${modelDtypes.join(', ')} (for cuda). See docs/build.md.`;

/** `nereid build` */
export function createCommand(): Command {
  return new Command()
    .description(
      'Builds an engine folder from a model: a Hugging Face folder, a .gguf file, a catalogue name or a hub name.',
    )
    .argument('[model]', 'what to build from; may stand in the config instead')
    .option('-c, --config <file>', 'build config (YAML); see docs/build.md')
    .option('-o, --output <folder>', 'engine folder to make (default: <name>-engine)')
    .option('--name <name>', 'what the engine calls itself (default: the model)')
    .addOption(new Option('--target <target>', 'what it is built for (default: ggml)').choices(buildTargets))
    .addOption(
      new Option('--dtype <type>', 'type of the weights (default: auto)').choices(['auto', ...modelDtypes]),
    )
    .option(
      '--tensor <pattern=type>',
      'type of the tensors whose GGUF name matches; repeatable',
      keyValueOption,
    )
    .option(
      '--context-length-max <n>',
      'positions of one sequence at most',
      integerOption(1, contextLengthMax),
    )
    .addOption(new Option('--kv-dtype <type>', 'type of the KV cache (default: f16)').choices(kvDtypes))
    .option(
      '--tensor-parallel <n>',
      'ranks that share every layer, one weight file each (default: 1)',
      integerOption(1, ranksMax),
    )
    .option(
      '--pipeline-parallel <n>',
      'stages that the layers are divided into (default: 1)',
      integerOption(1, ranksMax),
    )
    .option(
      '--random <shape>',
      'no model: a well-known shape with weights that the GPU makes up, for benchmarks',
    )
    .option('--seed <n>', 'of the random weights', integerOption(0, seedMax), 1)
    .option('--threads <n>', 'threads to quantize with', integerOption(1, threadsMax), availableParallelism())
    .option('--force', 'replace the engine that is at the output')
    .option('--verify', 'build nothing: hash every file of the engine and compare')
    .option('-q, --quiet', 'no progress, only errors')
    .addHelpText('after', examples)
    .action((model: string | undefined, flags: BuildFlags) =>
      withInterrupt(async (signal) => {
        const { runBuild } = await import('./build-run.ts');
        await runBuild(model, flags, signal);
      }),
    );
}
