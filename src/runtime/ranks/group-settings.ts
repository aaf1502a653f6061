import { z } from 'zod';
import { type KvAbility, type KvPoolSize, kvDtypes } from '../../device/device.ts';
import { RuntimeError } from '../errors.ts';

const count = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
const bytes = z.number().min(0);

/** What rank 0 decides for all: how the model is loaded. */
const settingsSchema = z.object({
  device: z.string().max(100),
  contextLength: count.min(1),
  batchTokensMax: count.min(1),
  kvDtype: z.enum(kvDtypes),
});

/** What a rank says about the weights that it loaded. */
const factsSchema = z.object({
  weightBytes: bytes,
  freeBytes: bytes,
  bytesPerPosition: bytes,
  layout: z.enum(['slots', 'blocks', 'either']),
  blockPositions: count.min(1),
});

/** How large every rank makes its KV cache. */
const allocateSchema = z.object({ blocks: count.min(1), blockPositions: count.min(1), hostBlocks: count });

/** Why a rank cannot go on. */
const failedSchema = z.object({ code: z.string().max(100), message: z.string().max(10_000) });

export type GroupSettings = z.output<typeof settingsSchema>;
export type RankFacts = z.output<typeof factsSchema>;

/** @throws RuntimeError `RANK_MESSAGE_INVALID`, as all of these */
export const parseSettings = (value: unknown): GroupSettings => parsed(settingsSchema, value);
export const parseFacts = (value: unknown): RankFacts => parsed(factsSchema, value);
export const parseAllocate = (value: unknown): KvPoolSize => parsed(allocateSchema, value);
export const parseFailed = (value: unknown): z.output<typeof failedSchema> => parsed(failedSchema, value);

/** What a rank reports of its loaded weights. */
export function factsOf(weights: {
  weightBytes: number;
  kv: KvAbility;
  memory(): { freeBytes: number };
}): RankFacts {
  const { bytesPerPosition, layout, blockPositions } = weights.kv;
  const { freeBytes } = weights.memory();
  return { weightBytes: weights.weightBytes, freeBytes, bytesPerPosition, layout, blockPositions };
}

function parsed<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new RuntimeError(
    'RANK_MESSAGE_INVALID',
    `a rank sent settings that are none: ${result.error.message}`,
  );
}
