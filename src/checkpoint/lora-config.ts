import { CheckpointError } from './errors.ts';
import { isRecord, type JsonRecord, readJsonFile } from './json.ts';
import { ModulePattern, patternStepsMax } from './lora-pattern.ts';

/** The largest LoRA rank. */
export const loraRankMax = 1024;

/** Rank or alpha for the modules that a pattern matches. */
export interface PatternValue {
  pattern: ModulePattern;
  value: number;
}

/** What Nereid uses of PEFT's `adapter_config.json`. */
export interface LoraConfig {
  rank: number;
  alpha: number;
  /** Rank-stabilised: scale by alpha / sqrt(rank) instead of alpha / rank. */
  rankStabilised: boolean;
  /** Module names, or one regular expression; informative, since the tensors say which modules are adapted. */
  targetModules: readonly string[];
  rankPattern: readonly PatternValue[];
  alphaPattern: readonly PatternValue[];
  /** Whether the adapted layers are GPT-2's Conv1D. A and B are stored as for any linear layer all the same. */
  fanInFanOut: boolean;
  baseModel?: string;
}

/** @throws CheckpointError for a damaged config, or one of a method that Nereid does not run */
export function readLoraConfig(path: string): LoraConfig {
  const config = readJsonFile(path);
  refuseUnsupported(path, config);
  const rank = config.r;
  if (typeof rank !== 'number' || !Number.isInteger(rank) || rank < 1 || rank > loraRankMax) {
    throw configError(path, `r must be a whole number from 1 to ${loraRankMax}, not ${JSON.stringify(rank)}`);
  }
  const rankPattern = readPattern(path, config, 'rank_pattern');
  return {
    rank,
    alpha: readAlpha(path, config),
    rankStabilised: config.use_rslora === true,
    targetModules: readTargets(path, config.target_modules),
    rankPattern,
    alphaPattern: readPattern(path, config, 'alpha_pattern'),
    fanInFanOut: config.fan_in_fan_out === true,
    baseModel:
      typeof config.base_model_name_or_path === 'string' ? config.base_model_name_or_path : undefined,
  };
}

function configError(path: string, problem: string): CheckpointError {
  return new CheckpointError('LORA_CONFIG_INVALID', `${path}: ${problem}; save the adapter again with PEFT`);
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return true;
  if (Array.isArray(value)) return value.length === 0;
  return isRecord(value) && Object.keys(value).length === 0;
}

function refuseUnsupported(path: string, config: JsonRecord): void {
  if (config.peft_type !== 'LORA') {
    const type = JSON.stringify(config.peft_type);
    throw unsupported(path, `peft_type is ${type}, and Nereid serves only "LORA"`);
  }
  if (config.use_dora === true) throw unsupported(path, 'it uses DoRA (use_dora)');
  if (config.bias !== undefined && config.bias !== 'none')
    throw unsupported(path, `it trains biases (bias: ${JSON.stringify(config.bias)})`);
  // Each of these changes more of the model than A and B say.
  for (const key of [
    'modules_to_save',
    'lora_bias',
    'target_parameters',
    'trainable_token_indices',
    'layer_replication',
    'use_qalora',
  ]) {
    if (!isEmpty(config[key])) throw unsupported(path, `it uses ${key}`);
  }
}

function unsupported(path: string, problem: string): CheckpointError {
  const fix = 'merge it into its base model with PEFT (merge_and_unload) and serve that';
  return new CheckpointError('LORA_UNSUPPORTED', `${path}: ${problem}; ${fix}`);
}

function readAlpha(path: string, config: JsonRecord): number {
  const alpha = config.lora_alpha ?? 8; // PEFT's default.
  if (typeof alpha === 'number' && Number.isFinite(alpha)) return alpha;
  throw configError(path, `lora_alpha must be a number, not ${JSON.stringify(alpha)}`);
}

function readTargets(path: string, value: unknown): string[] {
  if (value === undefined || value === null) return [];
  if (typeof value === 'string') return [value];
  if (Array.isArray(value) && value.every((name) => typeof name === 'string')) return value;
  throw configError(path, 'target_modules must be a list of names or one expression');
}

function readPattern(path: string, config: JsonRecord, key: string): PatternValue[] {
  const patterns = config[key];
  if (patterns === undefined || patterns === null) return [];
  if (!isRecord(patterns)) throw configError(path, `${key} must be an object`);
  return Object.entries(patterns).map(([name, value]) => {
    if (typeof value !== 'number' || !Number.isFinite(value))
      throw configError(path, `${key} of '${name}' must be a number`);
    return { pattern: new ModulePattern(path, name), value };
  });
}

/** Rank and alpha of one module after the patterns; the first that matches counts, as in PEFT. */
export function rankAndAlpha(config: LoraConfig, module: string): { rank: number; alpha: number } {
  const pick = (patterns: readonly PatternValue[]) =>
    patterns.find(({ pattern }) => pattern.matches(module))?.value;
  return { rank: pick(config.rankPattern) ?? config.rank, alpha: pick(config.alphaPattern) ?? config.alpha };
}

/** @throws CheckpointError when matching the patterns with all modules could take long */
export function checkPatternCost(path: string, config: LoraConfig, modules: Iterable<string>): void {
  const patterns = [...config.rankPattern, ...config.alphaPattern].map(({ pattern }) => pattern);
  if (patterns.length === 0) return;
  let steps = 0;
  for (const module of modules) {
    for (const pattern of patterns) steps += pattern.stepsMax(module);
    if (steps > patternStepsMax) {
      const problem = `${path}: rank_pattern and alpha_pattern could take over ${patternStepsMax} steps to match`;
      throw new CheckpointError('LORA_UNSUPPORTED', `${problem}; write fewer and simpler expressions`);
    }
  }
}
