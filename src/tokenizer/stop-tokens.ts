import type { AddedToken } from './added-tokens.ts';

/** Names that families give to the token that ends a turn or a text; checkpoints often name only one of theirs as eos. */
export const endOfTurnNames: ReadonlySet<string> = new Set([
  '<|eot_id|>',
  '<|eom_id|>',
  '<|im_end|>',
  '<|end|>',
  '<|return|>',
  '<|call|>',
  '<|endoftext|>',
  '<|end_of_text|>',
  '<|end_of_turn|>',
  '<end_of_turn>',
  '<end_of_utterance>',
  '<｜end▁of▁sentence｜>',
  '<|EOT|>',
  '<EOT>',
  '_<EOT>',
  '<|END_OF_TURN_TOKEN|>',
]);

/** The ids that end a generation, ascending: those listed, and added tokens with a known end-of-turn name. */
export function stopTokenIdsOf(
  added: readonly AddedToken[],
  listed: readonly (number | undefined)[],
): number[] {
  const ids = new Set(listed.filter((id) => id !== undefined));
  for (const token of added) if (endOfTurnNames.has(token.content)) ids.add(token.id);
  return [...ids].sort((a, b) => a - b);
}
