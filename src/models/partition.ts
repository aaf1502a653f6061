import { ModelError } from './errors.ts';
import type { Hyperparameters } from './hyperparameters.ts';
import type { Range, RankPart } from './rank-part.ts';

/** Ranks of one engine; more than any group that one model is divided among. */
export const ranksMax = 64;

/** How a model is divided: `tensor` ranks share every layer, `pipeline` stages follow each other. */
export interface Parallelism {
  tensor: number;
  pipeline: number;
}

/** Rows of the output matrix and columns of the feed-forward are divided at multiples of these, where there are enough of them. */
const vocabularyMultiple = 32;
export const feedForwardMultipleDefault = 64;

/** Indexes in a range. */
export function rangeLength([from, to]: Range): number {
  return to - from;
}

/**
 * Divides a model among a group of ranks, stage by stage. Heads go whole, by key/value head, so ranks may get unequal counts of them; the
 * feed-forward's columns make up for it, since a step takes as long as its slowest rank takes.
 * @param feedForwardMultiple columns are divided at its multiples (a quantized type's block), where there are enough of them
 * @throws ModelError MODEL_UNSUPPORTED saying which ranks would do
 */
export function divideModel(
  p: Hyperparameters,
  parallelism: Parallelism,
  feedForwardMultiple = feedForwardMultipleDefault,
): RankPart[] {
  const { tensor: tensorRanks, pipeline: stages } = parallelism;
  checkCounts(p, parallelism);
  const kvHeads = divideKvHeads(p, tensorRanks);
  const heads = divideHeads(p, kvHeads, tensorRanks);
  const feedForward = divideFeedForward(p, heads, kvHeads, feedForwardMultiple);
  const vocabulary = divideEvenly(p.vocabularySize, tensorRanks, vocabularyMultiple);
  const layers = divideLayers(p, stages);
  return layers.flatMap((own, stage) =>
    heads.map((headRange, tensorRank) => ({
      rank: stage * tensorRanks + tensorRank,
      tensorRank,
      tensorRanks,
      stage,
      stages,
      layers: own,
      heads: headRange,
      kvHeads: kvHeads[tensorRank] as Range,
      feedForward: feedForward[tensorRank] as Range,
      vocabulary,
    })),
  );
}

/** The numbers of a model as one rank computes with: its own heads and feed-forward columns; width, layers and vocabulary stay the whole's. */
export function hyperparametersOfRank(p: Hyperparameters, part: RankPart): Hyperparameters {
  return {
    ...p,
    heads: rangeLength(part.heads),
    kvHeads: rangeLength(part.kvHeads),
    feedForwardWidth: rangeLength(part.feedForward),
    part,
  };
}

function checkCounts(p: Hyperparameters, { tensor, pipeline }: Parallelism): void {
  const isCount = (value: number) => Number.isInteger(value) && value >= 1;
  if (!isCount(tensor) || !isCount(pipeline) || tensor * pipeline > ranksMax) {
    throw unsupported(
      `${tensor} tensor ranks times ${pipeline} stages`,
      `give whole numbers, ${ranksMax} ranks at most`,
    );
  }
  if (pipeline > p.layers) {
    throw unsupported(`${pipeline} pipeline stages for ${p.layers} layers`, 'give each stage a layer');
  }
  if (tensor > Math.min(p.feedForwardWidth, p.vocabularySize)) {
    const least = Math.min(p.feedForwardWidth, p.vocabularySize);
    throw unsupported(`${tensor} tensor ranks for ${least} columns`, `use ${least} ranks at most`);
  }
}

function divideKvHeads(p: Hyperparameters, ranks: number): Range[] {
  if (ranks <= p.kvHeads) return divideEvenly(p.kvHeads, ranks, 1);
  if (ranks % p.kvHeads !== 0 || p.heads % ranks !== 0) {
    const counts = Array.from({ length: p.heads }, (_, index) => index + 1);
    const known = counts.filter((n) => n <= p.kvHeads || (n % p.kvHeads === 0 && p.heads % n === 0));
    const problem = `${p.heads} heads over ${p.kvHeads} key/value heads cannot be divided among ${ranks} tensor ranks`;
    throw unsupported(problem, `--tensor-parallel may be ${known.join(', ')}`);
  }
  const sharing = ranks / p.kvHeads;
  return Array.from({ length: ranks }, (_, rank) => {
    const head = Math.floor(rank / sharing);
    return [head, head + 1] as const;
  });
}

function divideHeads(p: Hyperparameters, kvHeads: readonly Range[], ranks: number): Range[] {
  if (ranks > p.kvHeads) return divideEvenly(p.heads, ranks, 1);
  const group = p.heads / p.kvHeads;
  return kvHeads.map(([from, to]) => [from * group, to * group] as const);
}

/** `total` in nearly equal ranges, cut at multiples where there are at least as many as ranges; the first ones are the longer ones. */
function divideEvenly(total: number, ranges: number, multiple: number): Range[] {
  const unit = total >= ranges * multiple ? multiple : 1;
  const units = Math.ceil(total / unit);
  const cut = (index: number) => Math.min(total, Math.ceil((index * units) / ranges) * unit);
  return Array.from({ length: ranges }, (_, index) => [cut(index), cut(index + 1)] as const);
}

/**
 * What heads weigh beside the feed-forward: their matrices (q and o, k and v), and as much again for their work on the KV cache. (Measured on
 * ggml, SmolLM2-135M, 16 sequences of 130 positions: twice as much again; for one sequence nearly nothing.)
 */
function attentionWeights(p: Hyperparameters, heads: Range, kvHeads: Range): number {
  return 2 * 2 * p.width * p.headDimension * (rangeLength(heads) + rangeLength(kvHeads));
}

/** Columns so that attention and feed-forward together take as long on every rank, as near as the multiple allows. */
function divideFeedForward(
  p: Hyperparameters,
  heads: readonly Range[],
  kvHeads: readonly Range[],
  multiple: number,
): Range[] {
  const ranks = heads.length;
  const { feedForwardWidth: total } = p;
  const unit = total % multiple === 0 && total >= ranks * multiple ? multiple : 1;
  const units = total / unit;
  // Gate, up and down; families with two matrices are balanced a little less well.
  const unitWeights = 3 * p.width * unit;
  const attention = heads.map((own, rank) => attentionWeights(p, own, kvHeads[rank] as Range));
  const all = attention.reduce((sum, weights) => sum + weights, units * unitWeights);
  const ranges: Range[] = [];
  let wanted = 0;
  let start = 0;
  for (let rank = 0; rank < ranks; rank++) {
    wanted += (all / ranks - (attention[rank] as number)) / unitWeights;
    const least = start + 1;
    const most = units - (ranks - 1 - rank);
    const end = rank === ranks - 1 ? units : Math.max(least, Math.min(most, Math.round(wanted)));
    ranges.push([start * unit, end * unit]);
    start = end;
  }
  return ranges;
}

/** Layers so that every stage takes as long: the last one also multiplies the output matrix. */
function divideLayers(p: Hyperparameters, stages: number): Range[] {
  const attention = attentionWeights(p, [0, p.heads], [0, p.kvHeads]);
  const layerWeights = attention + 3 * p.width * p.feedForwardWidth;
  const outputLayers = (p.vocabularySize * p.width) / layerWeights;
  const ranges: Range[] = [];
  let start = 0;
  for (let stage = 0; stage < stages; stage++) {
    const wanted = Math.round(((p.layers + outputLayers) * (stage + 1)) / stages);
    const most = p.layers - (stages - 1 - stage);
    const end = stage === stages - 1 ? p.layers : Math.max(start + 1, Math.min(most, wanted));
    ranges.push([start, end]);
    start = end;
  }
  return ranges;
}

function unsupported(problem: string, fix: string): ModelError {
  return new ModelError('MODEL_UNSUPPORTED', `cannot divide the model: ${problem}; ${fix}`);
}
