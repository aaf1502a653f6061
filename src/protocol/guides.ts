import { messageOf } from '../base/errors.ts';
import { RuntimeError } from '../runtime/errors.ts';
import { type GuideWish, guideOfWish } from '../runtime/guidance/grammar/wish.ts';
import type { Guide } from '../runtime/guidance/guide.ts';
import { ProtocolError } from './errors.ts';

/**
 * A wish as engines take it.
 * @param parameter where the client wrote it
 * @throws ProtocolError PARAMETER_INVALID for one that cannot be made into a grammar
 */
export function guideFor(wish: GuideWish, parameter: string): Guide {
  try {
    return guideOfWish(wish);
  } catch (cause) {
    if (!(cause instanceof RuntimeError)) throw cause;
    throw new ProtocolError('PARAMETER_INVALID', `${parameter}: ${messageOf(cause)}`, { parameter, cause });
  }
}
