/**
 * One step's work and its result, as columns: what an engine plans, a device uploads, the other ranks of a group replay and a trace
 * stores are one plain value. Everything in it is checked before it reaches a device (`check-step.ts`): a bad token id aborts inside ggml.
 */

/** One step's work. A batch without rows only moves KV blocks. */
export interface StepBatch {
  /** Counts steps of one model, up by one each. */
  serial: number;
  /** [T] token ids; −1 − r stands for the token that output row r of step `serial` − 1 sampled on the device. */
  tokens: Int32Array;
  /** [T] positions, consecutive within a segment. */
  positions: Int32Array;
  /** Cover the rows 0..T−1 in order. */
  segments: SegmentTable;
  outputs: OutputTable;
  /** Done before the rows, in this order, on every rank. */
  kv: KvOperations;
  /** [T, width] the residual stream that the stage before handed on: for pipeline stages but the first. */
  hidden?: Float32Array;
}

/** Each segment is one sequence's part of a step: `rows` consecutive batch rows that extend its KV to `kvLength` positions. */
export interface SegmentTable {
  count: number;
  /** [count], each at least 1. */
  rows: Int32Array;
  /** [count] positions in the sequence's KV after this step; the segment's rows are the last of them. */
  kvLength: Int32Array;
  /** [count + 1] segment i's KV lies in `blocks[blockStart[i]]` to `blocks[blockStart[i + 1] − 1]`, in order of positions. */
  blockStart: Int32Array;
  blocks: Int32Array;
  /** [count] the slot of each segment's adapter, or {@link baseModel}. Absent where no segment has one: such a step costs what it always did. */
  adapter?: Int32Array;
}

/** In {@link SegmentTable.adapter}: the model as it is. */
export const baseModel = -1;

/** What an output row may ask for: bits of {@link OutputTable.wants}. */
export const want = {
  /** The next token, chosen on the device. */
  token: 1,
  /** The row's logits, for the host to choose from. */
  logits: 2,
  /** Log-probabilities of the chosen token and of the likeliest ones; only with `token`. */
  logprobs: 4,
  /** {@link RowProbabilities} beside the logits; a device may ignore it. Only with `logits`. */
  probabilities: 8,
  /** The host will hold most tokens back (a grammar's mask): all logits count, however unlikely. Only with `logits`. */
  masked: 16,
  /** The final hidden state, behind the last norm; alone or beside the others. Only of models that have a `hiddenWidth`. */
  hidden: 32,
} as const;

/** The rows whose results are wanted. */
export interface OutputTable {
  /** R; may be 0 (a prefill chunk that is not the last). */
  count: number;
  /** [R] batch rows, ascending. */
  rows: Int32Array;
  /** [R] bits of {@link want}, at least one each. */
  wants: Uint8Array;
  sampling: SamplingTable;
}

/** How each output row's token is chosen, as `runtime/sampling` defines it. Columns of [R]. */
export interface SamplingTable {
  /** 0 is greedy: the lowest id of equal logits. */
  temperature: Float64Array;
  /** 0 keeps all. */
  topK: Int32Array;
  /** (0, 1]. */
  topP: Float64Array;
  /** [0, 1]. */
  minP: Float64Array;
  /** The draw is keyed by (seed, sequence, position), `base/random.ts`: a safe integer. */
  seed: Float64Array;
  sequence: Int32Array;
  /** Of the token to be chosen. */
  position: Int32Array;
  /** Which {@link SamplingState} applies; −1 for none. The device adds the token it chooses to that state's output. */
  state: Int32Array;
  /** With {@link want.logprobs}: how many of the likeliest to report. */
  topLogprobs: Int32Array;
  /** States to set up before this step's rows are sampled. */
  loads: readonly SamplingStateLoad[];
}

/** What a sequence's choices depend on beside its logits; kept on the device from step to step, in the place `state`. */
export interface SamplingStateLoad {
  state: number;
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  promptTokens: Int32Array;
  outputTokens: Int32Array;
  /** Added to these tokens' logits, in this order. */
  biasTokens: Int32Array;
  biasValues: Float32Array;
  /** Tokens that may not be chosen at positions below `banUntilPosition`. */
  bannedTokens: Int32Array;
  banUntilPosition: number;
}

/** What a device can do when it chooses tokens, beyond the argmax of the raw logits that all can: bits of `DeviceModel.samplingFeatures`. */
export const samplingFeature = {
  /** Draws at a temperature, cut by min-p, top-k and top-p. */
  draw: 1,
  /** Penalties, logit bias and banned tokens: {@link SamplingStateLoad}. */
  state: 2,
  logprobs: 4,
  /** Bans by what was said, lists of what is allowed, a bias over the vocabulary, a top-p that decays: no device has it, the host does it. */
  history: 8,
  /** Guided rows: which tokens may come next. No device does it yet; the host chooses. */
  mask: 16,
} as const;

/** Kinds of {@link KvOperations}. */
export const kvOperation = {
  /** The first `positions` of block `from` are copied to block `to`. */
  copy: 0,
  /** Block `from` holds nothing any more; its memory may be given back. */
  release: 1,
  /** Block `from` of the device is copied to block `to` of the host pool, or back. */
  toHost: 2,
  fromHost: 3,
} as const;

/** An ordered list of operations on KV blocks, as columns of [count]. */
export interface KvOperations {
  count: number;
  /** Values of {@link kvOperation}. */
  kinds: Uint8Array;
  from: Int32Array;
  to: Int32Array;
  positions: Int32Array;
}

/** No operations. */
export const noKvOperations: KvOperations = {
  count: 0,
  kinds: new Uint8Array(0),
  from: new Int32Array(0),
  to: new Int32Array(0),
  positions: new Int32Array(0),
};

/** In {@link StepOutput.tokens}: the host chooses from the row's logits. */
export const hostChooses = -1;
/**
 * In {@link StepOutput.tokens}: no token is possible; all are banned, or the model made NaN or infinity. A row of the next step that refers to it
 * may compute anything: its sequence fails.
 */
export const noTokenPossible = -2;

/** A step's result for its R output rows. Views stay valid until as many further steps were launched as the model may have in flight. */
export interface StepOutput {
  /** [R] chosen tokens, {@link hostChooses} or {@link noTokenPossible}. */
  tokens: Int32Array;
  /** For the rows that want logits. */
  logits?: RowLogits;
  /** For the rows that want log-probabilities, in order. */
  logprobs?: RowLogprobs;
  /** For the rows that want their final hidden state. */
  rowHidden?: RowHidden;
  /** [T, width] the residual stream to hand on: of pipeline stages but the last, which choose no tokens. */
  hidden?: Float32Array;
}

/** Final hidden states of the output rows that want them; there may be others between them. */
export interface RowHidden {
  /** [.., hiddenWidth]. */
  values: Float32Array;
  /** [R] in which row of `values` an output row's state is; absent: in the row of the same number. */
  places?: Int32Array;
}

/** Logits of the output rows that want them; there may be others between them. */
export interface RowLogits {
  /** [.., vocabulary]. */
  values: Float32Array;
  /** [R] in which row of `values` an output row's logits are; absent: in the row of the same number. */
  places?: Int32Array;
  /** By the same places, if any row wanted probabilities and the device makes them. */
  probabilities?: RowProbabilities;
}

/** Log-probabilities of the model's own distribution (no temperature, no penalties), for P rows. */
export interface RowLogprobs {
  /** [P] of the chosen token. */
  chosen: Float64Array;
  /** Entries a row below; rows that asked for fewer use the first ones. */
  perRow: number;
  /** [P, perRow] likeliest first, of equal ones the lower id. */
  ids: Int32Array;
  values: Float32Array;
}

/** Tokens of one block of {@link RowProbabilities}: with 64, ggml's dot product sums one in a few vector instructions. */
export const probabilityBlock = 64;

/** Each row's softmax(logits / its temperature). A row whose logits hold NaN or infinity may be anything but sums to no number. */
export interface RowProbabilities {
  /** [.., vocabulary]. */
  values: Float32Array;
  /** [.., floor(vocabulary / {@link probabilityBlock})]: what each whole block of tokens sums to, so that few need a look. */
  blockSums: Float32Array;
}

/** What a step gave, and how long it computed. */
export interface StepResult {
  output: StepOutput;
  /** Time inside the device's compute call, for the step breakdown. */
  computeNs: number;
}
