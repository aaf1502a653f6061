import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { ensureEngine } from '../artifact/resolver.ts';
import { messageOf } from '../base/errors.ts';
import { tokenizerFolderName } from '../builder/engine-folder.ts';
import { checkRepository } from '../repository/check.ts';
import { createRepository, type ModelGroup } from '../repository/create.ts';
import { fillTemplate, parseSubstitutions } from '../repository/template.ts';
import { CliError } from './errors.ts';
import { createProgress } from './progress.ts';

/** What `nereid repo create` was told. */
export interface CreateFlags {
  engine: string;
  tokenizer?: string;
  group: ModelGroup;
  set: Record<string, string>;
}

/** `nereid repo create` @throws NereidError */
export async function createFilled(folder: string, flags: CreateFlags): Promise<void> {
  const { folder: engine } = await ensureEngine(flags.engine, { reporter: createProgress() });
  const tokenizer =
    flags.tokenizer === undefined ? `${engine}/${tokenizerFolderName}` : resolve(flags.tokenizer);
  if (!existsSync(tokenizer)) {
    throw new CliError('CLI_VALUE_INVALID', `--tokenizer ${tokenizer} does not exist`);
  }
  const models = await createRepository({
    target: folder,
    group: flags.group,
    engine: resolve(engine),
    tokenizer: resolve(tokenizer),
    values: flags.set,
  });
  process.stdout.write(`${folder}: ${models.join(', ')}\n`);
  process.stderr.write(`Serve it: nereid serve --model-repository ${folder}\n`);
}

/** `nereid repo fill` @throws RepositoryError, CliError for a file that cannot be read */
export async function fill(file: string, substitutions: string, inPlace: boolean): Promise<void> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new CliError('CLI_ARGUMENT_INVALID', `cannot read ${file}: ${messageOf(cause)}`, { cause });
  });
  const filled = fillTemplate(text, parseSubstitutions(substitutions), file);
  if (inPlace) await writeFile(file, filled.text);
  else process.stdout.write(filled.text);
  if (filled.unfilled.length > 0) {
    process.stderr.write(`${file}: not filled: ${filled.unfilled.map((key) => `\${${key}}`).join(', ')}\n`);
  }
}

/** `nereid repo check`: one line a model; fails if one is wrong. @throws CliError */
export async function check(folder: string): Promise<void> {
  if (!existsSync(folder)) throw new CliError('CLI_ARGUMENT_INVALID', `there is no ${folder}`);
  const found = await checkRepository(folder);
  if (found.length === 0) throw new CliError('CLI_ARGUMENT_INVALID', `${folder} has no model folders`);
  for (const { name, problems } of found) {
    process.stdout.write(problems.length === 0 ? `${name}: good\n` : '');
    for (const problem of problems) process.stdout.write(`${name}: ${problem}\n`);
  }
  const wrong = found.filter(({ problems }) => problems.length > 0).length;
  if (wrong === 0) return;
  throw new CliError('REPOSITORY_INVALID', `${wrong} of ${found.length} models have problems`, {
    usage: false,
  });
}
