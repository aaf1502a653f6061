import { statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseShardName } from '../checkpoint/gguf-split.ts';
import { type Checkpoint, openCheckpoint } from '../checkpoint/open.ts';
import { sha256File, sha256Text } from './hash.ts';

/** Hashes one file; a cache may answer from memory. */
export type HashFile = (path: string) => Promise<string>;

/** Small files of a Hugging Face folder that decide what an engine holds. */
const smallFiles =
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map)\.json$|^chat_template\.jinja$/;

/** A checkpoint's identity: equal contents have equal hashes, wherever the files lie. */
export interface ContentHash {
  sha256: string;
  /** Of each file, by absolute path. */
  files: ReadonlyMap<string, string>;
}

/**
 * Hashes everything of a checkpoint that an engine is made from.
 * @throws CheckpointError when it cannot be opened
 */
export async function contentHash(
  source: string | Checkpoint,
  hashFile: HashFile = (path) => sha256File(path),
): Promise<ContentHash> {
  const files = new Map<string, string>();
  if (typeof source === 'string' && isSingleGguf(source)) {
    const sha256 = await hashFile(source);
    return { sha256, files: files.set(source, sha256) };
  }
  const checkpoint = typeof source === 'string' ? openCheckpoint(source) : source;
  for (const path of checkpoint.files) files.set(path, await hashFile(path));
  if (checkpoint.kind === 'gguf') {
    const [only] = files.values();
    const sha256 = only !== undefined && files.size === 1 ? only : sha256Text([...files.values()].join('\n'));
    return { sha256, files };
  }
  const lines = checkpoint.files.map((path) => `${path.slice(checkpoint.path.length)} ${files.get(path)}`);
  for (const name of (await readdir(checkpoint.path)).filter((file) => smallFiles.test(file)).sort()) {
    const path = join(checkpoint.path, name);
    files.set(path, await hashFile(path));
    lines.push(`/${name} ${files.get(path)}`);
  }
  return { sha256: sha256Text(lines.join('\n')), files };
}

/** A GGUF file on its own is its own identity: its vocabulary need not be parsed to know that. */
function isSingleGguf(path: string): boolean {
  return path.endsWith('.gguf') && parseShardName(path) === undefined && statSync(path).isFile();
}
