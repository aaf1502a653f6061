import type { GgufVocabulary } from './gguf-vocabulary.ts';
import { tokenTypes } from './gguf-vocabulary.ts';

/** Pieces longer than this are not split into merges (SentencePiece's own limit is 16 by default). UTF-16 units. */
const pieceLengthMax = 512;

/** Types whose tokens text may merge into; text must never become a control or byte token by merging. */
const mergeable: ReadonlySet<number> = new Set([
  tokenTypes.normal,
  tokenTypes.userDefined,
  tokenTypes.unused,
]);

/**
 * SentencePiece merges any two neighbours whose text together is a piece, the piece of the highest score first. BPE's merge list says the
 * same: every way to split every piece in two pieces, by falling score.
 */
export function mergesFromScores(vocabulary: GgufVocabulary): [string, string][] {
  const { tokens, scores } = vocabulary;
  const isMergeable = (id: number) => mergeable.has(vocabulary.tokenTypes?.[id] ?? tokenTypes.normal);
  const pieces = new Set(tokens.filter((_, id) => isMergeable(id)));
  const ids = tokens.map((_, id) => id).filter(isMergeable);
  ids.sort((a, b) => (scores?.[b] ?? 0) - (scores?.[a] ?? 0) || a - b);
  const merges: [string, string][] = [];
  for (const id of ids) {
    const token = tokens[id] ?? '';
    if (token.length > pieceLengthMax) continue;
    for (let at = 1; at < token.length; at++) {
      const left = token.slice(0, at);
      if (!pieces.has(left)) continue;
      const right = token.slice(at);
      if (pieces.has(right)) merges.push([left, right]);
    }
  }
  return merges;
}
