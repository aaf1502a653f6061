import { decodeFloats } from '../../checkpoint/floats.ts';
import type { GenerationRequest } from '../../runtime/requests/request.ts';
import { RepositoryError } from '../errors.ts';
import type { Inputs } from './inputs.ts';
import { tolerated } from './tolerated.ts';

/** Datatypes of `draft_logits` (`logits_datatype` of the templates). */
const floatTypes: Readonly<Record<string, 'f32' | 'f16' | 'bf16'>> = {
  FP32: 'f32',
  FP16: 'f16',
  BF16: 'bf16',
};

/**
 * Tokens that the client thinks come next, verified together with the prompt's end: `draft_input_ids`, what they were drawn from (`draft_logits`), and how much less
 * likely they may be here (`draft_acceptance_threshold`; 0 is unset).
 * @throws RepositoryError INVALID_ARGUMENT
 */
export function draftOfRow(
  inputs: Inputs,
  row: number,
  vocabularySize: number,
): Pick<GenerationRequest, 'draft'> {
  const ids = inputs.row('draft_input_ids', 'INT32', row);
  const logits = logitsOfRow(inputs, row);
  const threshold = inputs.number('draft_acceptance_threshold', row) || undefined;
  if (!ids || ids.length === 0) {
    const other = logits
      ? 'draft_logits'
      : threshold === undefined
        ? undefined
        : 'draft_acceptance_threshold';
    if (other === undefined) return {};
    throw new RepositoryError('INVALID_ARGUMENT', `'${other}' needs 'draft_input_ids'; send both`);
  }
  if (threshold !== undefined && !logits) {
    const problem = "'draft_acceptance_threshold' compares 'draft_logits'";
    throw new RepositoryError('INVALID_ARGUMENT', `${problem}; send them, or leave it out`);
  }
  const tokens = tolerated(Int32Array.from(ids), vocabularySize);
  return { draft: { tokens, ...(logits && { logits }), ...(threshold !== undefined && { threshold }) } };
}

/** [drafts, vocabulary] of a row; undefined where there are none. */
function logitsOfRow(inputs: Inputs, row: number): Float32Array | undefined {
  const tensor = inputs.get('draft_logits');
  if (!tensor || tensor.data.length === 0) return undefined;
  const { datatype, shape, data } = tensor;
  const dtype = floatTypes[datatype];
  if (!dtype) {
    const known = Object.keys(floatTypes).join(', ');
    throw new RepositoryError('INVALID_ARGUMENT', `'draft_logits' is ${datatype}; it must be ${known}`);
  }
  const rowBytes = data.length / Math.max(1, shape[0] ?? 1);
  // A copy: the request's own memory may begin anywhere.
  return decodeFloats(dtype, data.slice(row * rowBytes, (row + 1) * rowBytes));
}
