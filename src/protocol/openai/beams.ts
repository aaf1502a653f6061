import type { GenerationInput } from '../../generation/generation.ts';
import { beamWidthMax } from '../../runtime/requests/validate.ts';
import { ProtocolError } from '../errors.ts';
import type { GenerationFields } from './requests.ts';

/**
 * vLLM's beam search: `use_beam_search` with `best_of` beams, or as many as texts are asked for.
 * @param width beams
 * @throws ProtocolError PARAMETER_INVALID for fields of a beam search without one, and for too many beams
 */
export function beamsOf(fields: GenerationFields, width: number): GenerationInput['beams'] {
  const { use_beam_search, length_penalty, early_stopping } = fields;
  if (!use_beam_search) {
    if ((length_penalty ?? 1) !== 1) throw lonely('length_penalty');
    if (early_stopping) throw lonely('early_stopping');
    return undefined;
  }
  if (width > beamWidthMax) {
    const message = `a beam search is at most ${beamWidthMax} wide; n or best_of asks for ${width}`;
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter: 'n' });
  }
  const earlyStopping = early_stopping ?? false;
  return { width, lengthPenalty: length_penalty ?? 1, earlyStopping, diversityRate: 0 };
}

function lonely(parameter: string): ProtocolError {
  return new ProtocolError(
    'PARAMETER_INVALID',
    `${parameter} is for beam search; send use_beam_search: true with it`,
    {
      parameter,
    },
  );
}
