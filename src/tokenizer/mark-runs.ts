/** Combining marks in a row that are normalized together; writing systems stay below 10, Unicode's stream-safe format below 31. */
const marksTogetherMax = 256;

const longRun = new RegExp(`\\p{M}{${marksTogetherMax}}`, 'u');
const upToLongRun = new RegExp(`[\\s\\S]*?\\p{M}{${marksTogetherMax}}|[\\s\\S]+`, 'gu');

/**
 * Normalizes a text in linear time: Unicode normalization sorts each run of combining marks, and V8's takes the square of a run's length
 * (8 s for 200,000 marks). Only longer runs than any real text has are cut.
 */
export function normalizeInParts(text: string, normalize: (part: string) => string): string {
  if (!longRun.test(text)) return normalize(text);
  return (text.match(upToLongRun) ?? []).map(normalize).join('');
}
