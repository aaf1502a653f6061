import type { BackendContext } from '../backend.ts';
import { parameterText } from '../config/complete.ts';
import { RepositoryError } from '../errors.ts';

/** A parameter that is a number above 0; undefined where it is not set. @throws RepositoryError INVALID_ARGUMENT naming the parameter */
export function positive({ config, name }: BackendContext, key: string, max: number): number | undefined {
  const text = parameterText(config, key);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (value > 0 && value <= max) return value;
  throw new RepositoryError(
    'INVALID_ARGUMENT',
    `${key} of ${name} is '${text}'; it must be above 0 and at most ${max}`,
  );
}
