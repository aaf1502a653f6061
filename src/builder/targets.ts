import type { BuildRecipe } from './config.ts';
import { BuilderError } from './errors.ts';
import type { EngineManifest } from './manifest.ts';

/** What engines can be built for, and what that asks of a recipe. */
export interface BuildTarget {
  /** Types of weights that make sense there; `auto` always does. */
  readonly dtypes: readonly BuildRecipe['dtype'][];
  readonly kvDtypes: readonly BuildRecipe['kvDtype'][];
  /** Settings of the device that runs the engine, unless the user gives others. */
  deviceOptions(recipe: BuildRecipe): Record<string, string>;
}

/** Targets by name: a device that runs what is built for it. */
export const buildTargetRows = {
  ggml: {
    dtypes: ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_k', 'q6_k'],
    kvDtypes: ['f16', 'f32', 'q8_0'],
    deviceOptions: () => ({}),
  },
  cuda: {
    dtypes: ['f32', 'f16', 'bf16', 'fp8'],
    // f16 stands for the type of the activations there.
    kvDtypes: ['f16', 'fp8'],
    // The GPU makes them e4m3 as it loads them.
    deviceOptions: ({ dtype }): Record<string, string> => (dtype === 'fp8' ? { matrices: 'fp8' } : {}),
  },
} as const satisfies Record<BuildRecipe['target'], BuildTarget>;

/**
 * Checks that a target can have what a recipe asks for.
 * @throws BuilderError `BUILD_CONFIG_INVALID`
 */
export function checkTarget({ target, dtype, kvDtype, pipelineParallel }: BuildRecipe): void {
  const row: BuildTarget = buildTargetRows[target];
  const refuse = (what: string, known: readonly string[]): never => {
    const problem = `an engine for ${target} cannot have ${what}`;
    throw new BuilderError(
      'BUILD_CONFIG_INVALID',
      `${problem}: give ${known.join(', ')}, or another --target`,
    );
  };
  if (dtype !== 'auto' && !row.dtypes.includes(dtype)) refuse(`--dtype ${dtype}`, ['auto', ...row.dtypes]);
  if (!row.kvDtypes.includes(kvDtype)) refuse(`--kv-dtype ${kvDtype}`, row.kvDtypes);
  if (target === 'cuda' && pipelineParallel > 1) refuse('stages', ['--tensor-parallel']);
}

/** Which device an engine was built for, with its settings there. */
export function deviceOf({ target, recipe }: EngineManifest): {
  name: string;
  options: Record<string, string>;
} {
  return { name: target.device, options: buildTargetRows[target.device].deviceOptions(recipe) };
}
