import { z } from 'zod';
import { kvDtypes } from '../device/device.ts';
import { dtypeNames } from '../graph/dtype.ts';
import { ranksMax } from '../models/partition.ts';
import { buildConfigSchema, buildTargets } from './config.ts';

/**
 * The version of the engine folder's layout and of engine.json. A reader takes exactly its own version: an engine is a build product,
 * and making it anew is one command. Raise it with every change of meaning.
 */
export const engineFormatVersion = 1;

/** The manifest's file name: written last, so a folder without it is no engine. */
export const manifestFileName = 'engine.json';

/** More files than any engine has; a bound for hostile manifests. */
const filesMax = 4096;

const manifestBytesMax = 16 * 1024 * 1024;

export { manifestBytesMax };

const relativePath = z
  .string()
  .min(1)
  .max(1024)
  .refine((path) => !path.startsWith('/') && !path.includes('\\') && !path.split('/').includes('..'), {
    message: 'must stay inside the engine folder',
  });

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/** A file of the engine. */
const fileEntry = z.object({ path: relativePath, bytes: z.int().min(0), sha256 });

/** A tensor that the recipe's type did not fit, and what it became instead. */
const exceptionEntry = z.object({
  tensor: z.string(),
  dtype: z.enum(dtypeNames as [(typeof dtypeNames)[number], ...typeof dtypeNames]),
  reason: z.string(),
});

const count = z
  .int()
  .min(0)
  .max(2 ** 31 - 1);
const range = z.tuple([count, count]).readonly();

/** What one rank holds of the model: the models layer's `RankPart`. */
const rankPart = z.object({
  rank: count,
  tensorRank: count,
  tensorRanks: count,
  stage: count,
  stages: count,
  layers: range,
  heads: range,
  kvHeads: range,
  feedForward: range,
  vocabulary: z.array(range).min(1).max(ranksMax).readonly(),
});

/** engine.json; every field is explained in docs/engine-folder.md. No times and no absolute paths: equal inputs make equal bytes. */
export const manifestSchema = z.object({
  format: z.literal('nereid-engine'),
  formatVersion: z.literal(engineFormatVersion),
  name: z.string().min(1),
  nereidVersion: z.string(),
  target: z.object({ device: z.enum(buildTargets), ggmlRelease: z.string() }),
  source: z.object({ kind: z.enum(['gguf', 'hugging-face', 'random']), sha256 }),
  architecture: z.string().min(1),
  hyperparameters: z.record(z.string(), z.unknown()),
  contextLength: z.int().min(1),
  vocabularySize: z.int().min(1),
  parameters: z.int().min(0),
  quantization: z.object({
    /** Tensors by type. */
    tensors: z.record(z.string(), z.int()),
    exceptions: z.array(exceptionEntry),
  }),
  kvDtype: z.enum(kvDtypes),
  recipe: buildConfigSchema.omit({ model: true, output: true, name: true }),
  /** One weight file a rank, in rank order. */
  ranks: z.array(relativePath).min(1).max(ranksMax),
  /** What each rank holds; absent where one rank holds everything. */
  parts: z.array(rankPart).min(2).max(ranksMax).optional(),
  files: z.array(fileEntry).min(1).max(filesMax),
});

export type EngineManifest = z.output<typeof manifestSchema>;
export type EngineFile = z.output<typeof fileEntry>;
export type QuantizationException = z.output<typeof exceptionEntry>;
