/** Indexes [from, to). */
export type Range = readonly [from: number, to: number];

/** What one rank holds of a model. Ranges are of the whole model's layers, heads, columns and words. */
export interface RankPart {
  /** Of the whole group: stage · tensorRanks + tensorRank. */
  rank: number;
  tensorRank: number;
  tensorRanks: number;
  stage: number;
  stages: number;
  layers: Range;
  /** Query heads; they read no other key/value heads than `kvHeads`. */
  heads: Range;
  /** Several ranks hold the same one where there are more ranks than heads. */
  kvHeads: Range;
  feedForward: Range;
  /** Rows of the output matrix that each tensor rank multiplies, in rank order: what an all-gather joins. */
  vocabulary: readonly Range[];
}
