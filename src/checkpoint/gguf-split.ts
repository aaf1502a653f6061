import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { CheckpointError } from './errors.ts';
import { ggufLimits } from './gguf-limits.ts';
import type { GgufParts } from './gguf-parts.ts';
import { GgufMetadata } from './gguf-values.ts';

/** What a split model's file name says, as llama.cpp's `gguf-split` writes it: `name-00002-of-00005.gguf`. */
export interface ShardName {
  prefix: string;
  /** From 1. */
  number: number;
  count: number;
}

/** Undefined for a file that is not named as a shard. */
export function parseShardName(fileName: string): ShardName | undefined {
  const match = /^(.+)-(\d{5})-of-(\d{5})\.gguf$/.exec(fileName);
  if (!match) return undefined;
  return { prefix: match[1] as string, number: Number(match[2]), count: Number(match[3]) };
}

/** The inverse of {@link parseShardName}. */
export function shardFileName({ prefix, number, count }: ShardName): string {
  const digits = (value: number) => String(value).padStart(5, '0');
  return `${prefix}-${digits(number)}-of-${digits(count)}.gguf`;
}

/**
 * All shards of the model that `first` begins, in order; just `first` when it is not split.
 * @throws CheckpointError when `first` is a later shard, a shard is missing, or the shards do not belong together
 */
export function readShards(first: GgufParts, read: (path: string) => GgufParts): GgufParts[] {
  const metadata = new GgufMetadata(first.path, first.metadata);
  const count = metadata.optionalNumber('split.count') ?? 0;
  if (count <= 1) return [first];
  if (!Number.isInteger(count) || count > ggufLimits.shardsMax) {
    throw new CheckpointError(
      'GGUF_LIMIT',
      `${first.path}: split.count is ${count}, over ${ggufLimits.shardsMax}; the file is damaged`,
    );
  }
  const name = firstShardName(first.path, count, metadata.optionalNumber('split.no') ?? 0);
  const paths = Array.from({ length: count }, (_, index) =>
    join(dirname(first.path), shardFileName({ ...name, number: index + 1 })),
  );
  const missing = paths.filter((path) => !existsSync(path));
  if (missing.length > 0) {
    const names = missing.slice(0, 4).map((path) => basename(path));
    const more = missing.length > names.length ? ` and ${missing.length - names.length} more` : '';
    const problem = `${first.path} is split in ${count} files, and ${names.join(', ')}${more} are missing`;
    throw new CheckpointError('CHECKPOINT_INCOMPLETE', `${problem}; download them into the same folder`);
  }
  const shards = paths.map((path, index) => (index === 0 ? first : read(path)));
  checkTogether(first, shards, metadata.optionalNumber('split.tensors.count'));
  return shards;
}

function firstShardName(path: string, count: number, index: number): ShardName {
  const name = parseShardName(basename(path));
  if (!name || name.count !== count) {
    const expected = `'…-00001-of-${String(count).padStart(5, '0')}.gguf'`;
    throw new CheckpointError(
      'GGUF_SPLIT_INVALID',
      `${path} is split in ${count} files, but is not named ${expected}; rename it`,
    );
  }
  if (index === 0 && name.number === 1) return name;
  const firstName = shardFileName({ ...name, number: 1 });
  throw new CheckpointError(
    'GGUF_SPLIT_INVALID',
    `${path} is shard ${index + 1} of ${count}; open ${firstName} instead`,
  );
}

function checkTogether(
  first: GgufParts,
  shards: readonly GgufParts[],
  tensorCount: number | undefined,
): void {
  const seen = new Set<string>();
  for (const [index, shard] of shards.entries()) {
    const metadata = new GgufMetadata(shard.path, shard.metadata);
    if (metadata.number('split.no') !== index || metadata.number('split.count') !== shards.length) {
      throw new CheckpointError(
        'GGUF_SPLIT_INVALID',
        `${shard.path} is not shard ${index + 1} of ${first.path}; download the set again`,
      );
    }
    for (const tensorName of shard.tensors.keys()) {
      if (seen.has(tensorName)) {
        throw new CheckpointError(
          'GGUF_SPLIT_INVALID',
          `${shard.path}: tensor '${tensorName}' is in an earlier shard too; download the set again`,
        );
      }
      seen.add(tensorName);
    }
  }
  if (tensorCount === undefined || tensorCount === seen.size) return;
  const problem = `${first.path}: the shards hold ${seen.size} tensors, but split.tensors.count says ${tensorCount}`;
  throw new CheckpointError('GGUF_SPLIT_INVALID', `${problem}; download the set again`);
}
