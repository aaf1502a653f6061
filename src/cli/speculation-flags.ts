import { type Command, Option } from 'commander';
import { draftTokensMax } from '../runtime/speculation/governor.ts';
import {
  type NgramLengths,
  ngramLengthMax,
  ngramLengthsDefault,
} from '../runtime/speculation/ngram-lengths.ts';
import { CliError } from './errors.ts';
import type { SpeculationChoice } from './serving/options.ts';
import { integerOption } from './values.ts';

/** What `nereid serve` is told of guessing tokens ahead. */
export function addSpeculationOptions(command: Command): void {
  const draftModel = 'a smaller model with the same tokenizer guesses tokens ahead; texts stay the same';
  const draftHead =
    'a head trained for the model (EAGLE) guesses from its hidden states; texts stay the same';
  const drafts = `tokens that are guessed at once, at most (1 to ${draftTokensMax}; fewer where that is faster)`;
  const config =
    "vLLM's JSON for the same: method, model, num_speculative_tokens, prompt_lookup_max, prompt_lookup_min";
  command
    .option('--draft-model <model>', draftModel)
    .option('--draft-head <folder>', draftHead)
    .addOption(
      new Option('--speculation <method>', 'ngram: what repeats the text before is guessed from it').choices([
        'none',
        'ngram',
      ]),
    )
    .option('--num-speculative-tokens <n>', drafts, integerOption(1, draftTokensMax))
    .option('--speculative-config <json>', config);
}

interface SpeculationFlags {
  draftModel?: string;
  draftHead?: string;
  speculation?: 'none' | 'ngram';
  numSpeculativeTokens?: number;
  speculativeConfig?: string;
}

/** @throws CliError CLI_VALUE_INVALID for flags that contradict each other, or a configuration that says what Nereid cannot do */
export function speculationChoice(flags: SpeculationFlags): SpeculationChoice | undefined {
  const { draftModel, draftHead, speculation, numSpeculativeTokens: draftsMax, speculativeConfig } = flags;
  const isNamed = draftModel !== undefined || draftHead !== undefined;
  if (speculativeConfig !== undefined) {
    if (isNamed || speculation !== undefined || draftsMax !== undefined) {
      throw invalid('give --speculative-config, or --draft-model and --speculation, not both');
    }
    return choiceOfConfig(speculativeConfig);
  }
  if (draftModel !== undefined && draftHead !== undefined) {
    throw invalid('--draft-model and --draft-head exclude each other: give one');
  }
  if (isNamed && speculation === 'ngram') {
    const flag = draftModel === undefined ? '--draft-head' : '--draft-model';
    throw invalid(`${flag} and --speculation ngram exclude each other: give one`);
  }
  if (draftModel !== undefined && speculation !== 'none')
    return { method: 'draft-model', draftModel, draftsMax };
  if (draftHead !== undefined && speculation !== 'none')
    return { method: 'draft-head', draftHead, draftsMax };
  if (speculation === 'ngram') return { method: 'ngram', draftsMax };
  if (draftsMax !== undefined) {
    throw invalid('--num-speculative-tokens needs --draft-model, --draft-head or --speculation ngram');
  }
  return undefined;
}

const knownKeys = ['method', 'model', 'num_speculative_tokens', 'prompt_lookup_max', 'prompt_lookup_min'];

function choiceOfConfig(text: string): SpeculationChoice {
  const config = parsed(text);
  const unknown = Object.keys(config).find((key) => !knownKeys.includes(key));
  if (unknown !== undefined) {
    throw invalid(`--speculative-config has '${unknown}'; known: ${knownKeys.join(', ')}`);
  }
  const { method = config.model === undefined ? 'ngram' : 'draft_model', model } = config;
  const draftsMax = integerOf(config, 'num_speculative_tokens', draftTokensMax);
  if (method === 'ngram') return { method, draftsMax, lengths: lengthsOf(config) };
  if (method !== 'draft_model' && method !== 'eagle') {
    throw invalid(
      `--speculative-config has the method '${String(method)}'; known: ngram, draft_model, eagle`,
    );
  }
  if (typeof model !== 'string') {
    throw invalid(`--speculative-config needs a 'model' for the method ${method}`);
  }
  if (method === 'eagle') return { method: 'draft-head', draftHead: model, draftsMax };
  return { method: 'draft-model', draftModel: model, draftsMax };
}

function lengthsOf(config: Record<string, unknown>): NgramLengths {
  const max = integerOf(config, 'prompt_lookup_max', ngramLengthMax) ?? ngramLengthsDefault.max;
  const min =
    integerOf(config, 'prompt_lookup_min', ngramLengthMax) ?? Math.min(max, ngramLengthsDefault.min);
  if (min > max) throw invalid(`prompt_lookup_min ${min} is over prompt_lookup_max ${max}`);
  return { max, min };
}

function integerOf(config: Record<string, unknown>, key: string, max: number): number | undefined {
  const value = config[key];
  if (value === undefined) return undefined;
  if (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= max) return value as number;
  throw invalid(`${key} is ${String(value)}; it must be an integer from 1 to ${max}`);
}

function parsed(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw invalid('--speculative-config is no JSON object');
}

function invalid(message: string): CliError {
  return new CliError('CLI_VALUE_INVALID', message);
}
