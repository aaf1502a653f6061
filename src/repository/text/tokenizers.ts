import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { EncodePool, inlineTextLengthMax } from '../../tokenizer/encode-pool.ts';
import type { JsonTokenizer } from '../../tokenizer/json-tokenizer.ts';
import { openTokenizer } from '../../tokenizer/open.ts';
import type { BackendContext } from '../backend.ts';
import { parameterText } from '../config/complete.ts';
import type { ModelConfig } from '../config/types.ts';
import { RepositoryError } from '../errors.ts';

/** The text side of a model: its vocabulary, and ids for padding and for the end. */
export interface ModelTokenizer {
  tokenizer: JsonTokenizer;
  padId: number;
  endId: number;
  /** Whether whole texts begin with a BOS. */
  addsBos: boolean;
  /** At once for texts of usual length, off the event loop for long ones. */
  encode(text: string, addSpecialTokens: boolean): Int32Array | Promise<Int32Array>;
  close(): Promise<void>;
}

/**
 * Opens the tokenizer that a model's `tokenizer_dir` names: a folder with tokenizer.json, or an engine's folder.
 * @throws RepositoryError INVALID_ARGUMENT where there is none; TokenizerError
 */
export async function openModelTokenizer({ config, name }: BackendContext): Promise<ModelTokenizer> {
  const folder = parameterText(config, 'tokenizer_dir');
  if (folder === undefined) {
    const message = `${name} needs the parameter tokenizer_dir: a folder with tokenizer.json (a checkpoint's, or an engine)`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  const tokenizer = await openTokenizer(filesFolder(folder));
  const pool = new EncodePool(tokenizer);
  const endId = tokenizer.eosTokenId ?? tokenizer.stopTokenIds[0] ?? -1;
  const { bosTokenId } = tokenizer;
  return {
    tokenizer,
    endId,
    padId: padIdOf(tokenizer) ?? Math.max(0, endId),
    addsBos: bosTokenId !== undefined && tokenizer.encode('')[0] === bosTokenId,
    encode: (text, addSpecialTokens) =>
      text.length <= inlineTextLengthMax
        ? tokenizer.encode(text, { addSpecialTokens })
        : pool.encode(text, { addSpecialTokens }),
    close: () => pool.close(),
  };
}

/** The ids that end a text of the model whose tokenizer a configuration names; none where it names none. */
export async function stopTokenIdsOf(config: ModelConfig): Promise<readonly number[]> {
  const folder = parameterText(config, 'tokenizer_dir');
  return folder === undefined ? [] : (await openTokenizer(filesFolder(folder))).stopTokenIds;
}

/** Of an engine the tokenizer's folder in it. */
function filesFolder(folder: string): string {
  const inner = join(folder, 'tokenizer');
  const isEngine = !existsSync(join(folder, 'tokenizer.json')) && existsSync(join(inner, 'tokenizer.json'));
  return isEngine ? inner : folder;
}

/** The id that the tokenizer's files call the padding. */
function padIdOf(tokenizer: JsonTokenizer): number | undefined {
  for (const file of ['tokenizer_config.json', 'special_tokens_map.json'] as const) {
    const text = tokenizer.files[file];
    if (text === undefined) continue;
    const pad: unknown = (JSON.parse(text) as { pad_token?: unknown }).pad_token;
    const content = typeof pad === 'object' && pad !== null ? (pad as { content?: unknown }).content : pad;
    const id = typeof content === 'string' ? tokenizer.tokenId(content) : undefined;
    if (id !== undefined) return id;
  }
  return undefined;
}

const truths = ['true', '1', 't', 'y', 'yes'];
const falsehoods = ['false', '0', 'f', 'n', 'no'];

/** A parameter as the original's Python models read booleans; anything else is the default, with a warning. */
export function looseTruth(
  { config, name, logger }: BackendContext,
  key: string,
  fallback: boolean,
): boolean {
  const text = parameterText(config, key)?.toLowerCase();
  if (text === undefined) return fallback;
  if (truths.includes(text)) return true;
  if (falsehoods.includes(text)) return false;
  logger.warn({ model: name, parameter: key, value: text }, `no boolean; ${fallback} is used`);
  return fallback;
}
