import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TokenizerError } from './errors.ts';
import { JsonTokenizer, type TokenizerFiles } from './json-tokenizer.ts';
import { tokenizerJsonBytesMax } from './tokenizer-json.ts';

const optionalFiles = [
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'chat_template.jinja',
] as const;

/** A file's text, or undefined if there is no such file. */
async function textOf(path: string): Promise<string | undefined> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw error;
  });
  if (!found?.isFile()) return undefined;
  if (found.size > tokenizerJsonBytesMax)
    throw new TokenizerError(
      'TOKENIZER_INVALID',
      `${path} has ${found.size} bytes; at most ${tokenizerJsonBytesMax} are read`,
    );
  return readFile(path, 'utf8');
}

/**
 * The texts of a tokenizer folder's files.
 * @throws TokenizerError TOKENIZER_MISSING without a tokenizer.json
 */
export async function readTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const json = await textOf(join(folder, 'tokenizer.json'));
  if (json === undefined) {
    const hint = (await textOf(join(folder, 'tokenizer.model')))
      ? 'there is a tokenizer.model (SentencePiece): convert it with transformers, AutoTokenizer.from_pretrained(…).save_pretrained(…)'
      : "fetch it from the model's page";
    throw new TokenizerError('TOKENIZER_MISSING', `${folder} has no tokenizer.json; ${hint}`);
  }
  const files: TokenizerFiles = { 'tokenizer.json': json };
  for (const name of optionalFiles) {
    const text = await textOf(join(folder, name));
    if (text !== undefined) files[name] = text;
  }
  return files;
}

/**
 * Opens a folder with tokenizer.json and, where present, tokenizer_config.json, special_tokens_map.json, generation_config.json and
 * chat_template.jinja: an HF checkpoint or an engine's `tokenizer/`. Blocks for the time of parsing (0.3 s for 150k tokens).
 * @throws TokenizerError TOKENIZER_MISSING, TOKENIZER_INVALID, TOKENIZER_UNSUPPORTED
 */
export async function openTokenizer(folder: string): Promise<JsonTokenizer> {
  return new JsonTokenizer(await readTokenizerFiles(folder));
}
