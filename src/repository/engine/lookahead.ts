import type { GenerationRequest } from '../../runtime/requests/request.ts';
import { type LookupChoice, lookaheadAsLookup, lookaheadRule } from '../../runtime/speculation/lookahead.ts';
import type { LookupSettings } from '../../runtime/speculation/settings.ts';
import { parameterText } from '../config/complete.ts';
import type { ModelConfig } from '../config/types.ts';
import { RepositoryError } from '../errors.ts';
import type { Inputs } from './inputs.ts';

/** Tensors of a request, and parameters of a model: window, n-gram, verification set. */
const names = ['lookahead_window_size', 'lookahead_ngram_size', 'lookahead_verification_set_size'] as const;

/** Lookahead decoding that a request asks for, as n-gram lookup. @throws RepositoryError INVALID_ARGUMENT */
export function lookaheadOfRow(inputs: Inputs, row: number): Pick<GenerationRequest, 'speculation'> {
  const choice = choiceOf(
    names.map((name) => inputs.number(name, row)),
    'tensors',
  );
  return choice ? { speculation: { draftsMax: choice.draftsMax, lookup: choice.lengths } } : {};
}

/** The same of a model's parameters, for all of its requests. @throws RepositoryError INVALID_ARGUMENT */
export function lookaheadSettings(config: ModelConfig): LookupSettings | undefined {
  const texts = names.map((name) => parameterText(config, name));
  const choice = choiceOf(
    texts.map((text) => (text === undefined ? undefined : Number(text))),
    `parameters of ${config.name}`,
  );
  return choice && { method: 'ngram', ...choice };
}

function choiceOf(sizes: readonly (number | undefined)[], what: string): LookupChoice | undefined {
  if (sizes.every((size) => size === undefined)) return undefined;
  const [window = Number.NaN, ngram = Number.NaN, verification = Number.NaN] = sizes;
  const choice = lookaheadAsLookup({ window, ngram, verification });
  if (choice) return choice;
  const found = names.map((name, index) => `${name} ${sizes[index] ?? 'missing'}`).join(', ');
  throw new RepositoryError('INVALID_ARGUMENT', `the lookahead ${what} are ${found}: ${lookaheadRule}`);
}
