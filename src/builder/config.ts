import { z } from 'zod';
import { kvDtypes } from '../device/device.ts';
import { ranksMax } from '../models/partition.ts';

/** Types that a build can make, beside `auto`: keep every tensor as the checkpoint has it. */
export const buildDtypes = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_k', 'q6_k'] as const;

export type BuildDtype = (typeof buildDtypes)[number];

/** What a whole model can be asked for as: stored types, and e4m3, which is stored as bf16 and made on the GPU ({@link buildTargets}' cuda). */
export const modelDtypes = [...buildDtypes, 'fp8'] as const;

/** Targets that engines are built for: `targets.ts`. */
export const buildTargets = ['ggml', 'cuda'] as const;

/** Overrides in one config; a model has far fewer kinds of tensors. */
const tensorRulesMax = 1000;

const tensorRule = z.strictObject({
  pattern: z.string().min(1).max(200),
  dtype: z.enum(buildDtypes),
});

/** What `build.yaml` may say. Every key is optional there; the command line overrides each. Documented in docs/build.md. */
export const buildConfigSchema = z.strictObject({
  /** An HF folder, a `.gguf`, a catalogue name or a hub name. */
  model: z.string().min(1).optional(),
  /** The engine folder to make. */
  output: z.string().min(1).optional(),
  /** What the engine calls itself; default the model's own name. */
  name: z
    .string()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, 'must be letters, digits, dots, dashes (128 at most)')
    .optional(),
  target: z.enum(buildTargets).default('ggml'),
  dtype: z.enum(['auto', ...modelDtypes]).default('auto'),
  /** Overrides by GGUF tensor name, `*` standing for anything; the first match counts. */
  tensors: z.array(tensorRule).max(tensorRulesMax).default([]),
  /** Positions of one sequence; default what the model was trained for, which is also the most. */
  contextLengthMax: z.int().min(1).optional(),
  /** Ranks that share every layer, and stages of layers after each other: one weight file for each of their product. */
  tensorParallel: z.int().min(1).max(ranksMax).default(1),
  pipelineParallel: z.int().min(1).max(ranksMax).default(1),
  /** Type of the KV cache that the engine is meant to run with. */
  kvDtype: z.enum(kvDtypes).default('f16'),
});

export type BuildConfig = z.output<typeof buildConfigSchema>;

/** A build config as a file or the command line gives it. */
export type BuildConfigInput = z.input<typeof buildConfigSchema>;

/** The part of a config that decides what the engine's bytes are: not where it comes from or goes to. */
export type BuildRecipe = Omit<BuildConfig, 'model' | 'output' | 'name'>;

/** @returns the recipe of a config, keys in a fixed order so that equal recipes have equal JSON */
export function recipeOf(config: BuildConfig): BuildRecipe {
  const { target, dtype, tensors, contextLengthMax, tensorParallel, pipelineParallel, kvDtype } = config;
  const context = contextLengthMax === undefined ? {} : { contextLengthMax };
  return { target, dtype, tensors, ...context, tensorParallel, pipelineParallel, kvDtype };
}

/** Every default: an engine with the checkpoint's own types. */
export const defaultRecipe: BuildRecipe = recipeOf(buildConfigSchema.parse({}));
