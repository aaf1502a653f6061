/**
 * What a text must look like, as an engine takes it: the front ends make every wish (a JSON schema, a regex, a choice, a forced call) into a
 * grammar first (`grammar/`), so that an engine knows two languages only.
 */
export interface Guide {
  /** `grammar`: EBNF as xgrammar reads it, its root rule called `root`. `structural_tag`: xgrammar's JSON of free text with guided parts. */
  kind: 'grammar' | 'structural_tag';
  source: string;
  /** Texts of special tokens that the guide may write (`[TOOL_CALLS]`); others are never chosen. */
  specialTokens?: readonly string[];
}

/** UTF-16 units of a guide's source. */
export const guideLengthMax = 1024 * 1024;
/** Special tokens that one guide may name. */
export const guideSpecialTokensMax = 16;

/** What of two guides is the same. */
export function guideKey({ kind, source, specialTokens = [] }: Guide): string {
  return JSON.stringify([kind, specialTokens, source]);
}

/** Whether a value from elsewhere has the shape of a {@link Guide}. */
export function isGuide(value: unknown): value is Guide {
  if (typeof value !== 'object' || value === null) return false;
  const { kind, source, specialTokens } = value as Partial<Guide>;
  if (kind !== 'grammar' && kind !== 'structural_tag') return false;
  if (typeof source !== 'string') return false;
  return (
    specialTokens === undefined ||
    (Array.isArray(specialTokens) && specialTokens.every((token) => typeof token === 'string'))
  );
}
