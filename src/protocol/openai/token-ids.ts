import { ProtocolError } from '../errors.ts';
import type { ServedModel } from '../served-model.ts';

/** @throws ProtocolError PARAMETER_INVALID for an id outside the model's vocabulary */
export function checkTokenId(id: number, model: ServedModel, parameter: string): void {
  const size = model.client.description.vocabularySize;
  if (id < size) return;
  const message = `token id ${id} is outside the vocabulary of '${model.name}' (0 to ${size - 1})`;
  throw new ProtocolError('PARAMETER_INVALID', message, { parameter });
}
