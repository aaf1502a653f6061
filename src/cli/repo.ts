import { Command, Option } from 'commander';
import { modelGroups } from '../repository/create.ts';
import type { CreateFlags } from './repo-run.ts';
import { keyValueOption } from './values.ts';

/** `nereid repo` */
export function createCommand(): Command {
  const command = new Command().description('Makes, fills and checks model repositories (Triton’s layout).');
  command
    .command('create')
    .description('writes a repository that serves an engine as TensorRT-LLM’s models')
    .argument('<folder>', 'must be empty, or not exist')
    .requiredOption('--engine <engine>', 'engine folder, .gguf, Hugging Face folder, hub or catalogue name')
    .option('--tokenizer <folder>', "folder with tokenizer.json (default: the engine's)")
    .addOption(new Option('--group <group>', 'which models').choices(modelGroups).default(modelGroups[0]))
    .option(
      '--set <key=value>',
      'fills a placeholder otherwise than by default; repeatable',
      keyValueOption,
      {},
    )
    .addHelpText('after', '\nThen: nereid serve --model-repository <folder>')
    .action(async (folder: string, flags: CreateFlags) => {
      const { createFilled } = await import('./repo-run.ts');
      await createFilled(folder, flags);
    });
  command
    .command('fill')
    .description('fill_template.py: fills $placeholders; those without a value stay and are listed on stderr')
    .argument('<file>', 'a config.pbtxt (or any text)')
    .argument('<substitutions>', 'key:value,key:value; \\, and \\: for a comma and a colon in a value')
    .option('-i, --in-place', 'rewrite the file instead of printing')
    .action(async (file: string, substitutions: string, flags: { inPlace?: boolean }) => {
      const { fill } = await import('./repo-run.ts');
      await fill(file, substitutions, flags.inPlace ?? false);
    });
  command
    .command('check')
    .description('says what is wrong with each model of a repository, without starting engines')
    .argument('<folder>')
    .action(async (folder: string) => {
      const { check } = await import('./repo-run.ts');
      await check(folder);
    });
  return command;
}
