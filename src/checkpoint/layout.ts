/** A named byte range of a file, `[start, end)`. */
export interface NamedRange {
  name: string;
  start: number;
  end: number;
}

/** Two ranges that share bytes, or bytes that no range covers. */
export type LayoutProblem =
  | { kind: 'overlap'; first: NamedRange; second: NamedRange }
  | { kind: 'hole'; start: number; end: number };

/**
 * Finds the first overlap of `ranges`, or, with `cover` given, the first hole in `[0, cover)`. Empty ranges take part in neither.
 * @returns undefined when the layout is sound
 */
export function layoutProblem(ranges: readonly NamedRange[], cover?: number): LayoutProblem | undefined {
  const sorted = ranges.filter((range) => range.end > range.start).sort((a, b) => a.start - b.start);
  let previous: NamedRange | undefined;
  for (const range of sorted) {
    const end = previous?.end ?? 0;
    if (previous && range.start < end) return { kind: 'overlap', first: previous, second: range };
    if (cover !== undefined && range.start > end) return { kind: 'hole', start: end, end: range.start };
    previous = range;
  }
  const end = previous?.end ?? 0;
  return cover !== undefined && end < cover ? { kind: 'hole', start: end, end: cover } : undefined;
}
