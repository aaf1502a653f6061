/**
 * What the next step holds. Pure functions over plain facts, so that properties and a seeded simulator can drive them with no device.
 * Rows of one step share one token budget; generation rows come first, since every one of them is somebody waiting for a token.
 */

/** What scheduling must know of a sequence. */
export interface Schedulable {
  /** Its prompt is computed: it waits for its next token. */
  readonly isGenerating: boolean;
  /** Rows that could run now: 0 while it waits for something, 1 in the generation phase, more in the context phase. */
  readonly rowsReady: number;
  readonly rowsPerStepMax: number;
  /** Tokens that a launched step chooses for it. */
  readonly tokensInFlight: number;
  /** Rows that may follow all of {@link rowsReady} in the same step where there is room: drafts. */
  readonly rowsOptional: number;
}

/** One step's rows: `rows[i]` of `sequences[i]`. Reused from step to step. */
export interface PlannedRows<S extends Schedulable> {
  readonly sequences: S[];
  readonly rows: number[];
}

/** An empty plan, for {@link planBatch} to fill. */
export function emptyPlan<S extends Schedulable>(): PlannedRows<S> {
  return { sequences: [], rows: [] };
}

/**
 * Shares one step's token budget: the rows of each sequence in its generation phase, then chunks of prompts in order of urgency. A
 * long prompt cannot starve: generation rows take at most one row a sequence, and a prompt in front of it ends.
 * @param running by urgency
 * @param batchTokensMax at least as many as sequences may run, so that no generation row ever waits
 * @param planned is emptied first
 * @param stages of a device that has several steps in it at a time: each step then gets its share of the generating sequences, and none whose last
 * token is still on its way, since a step could only wait for that
 */
export function planBatch<S extends Schedulable>(
  running: readonly S[],
  batchTokensMax: number,
  planned: PlannedRows<S>,
  stages = 1,
): void {
  planned.sequences.length = 0;
  planned.rows.length = 0;
  let budget = batchTokensMax;
  let prompts = 0;
  const generatingMax = stages === 1 ? Number.POSITIVE_INFINITY : shareOf(running, stages);
  for (let index = 0; index < running.length && budget > 0; index++) {
    const sequence = running[index] as S;
    if (!sequence.isGenerating) {
      prompts++;
      continue;
    }
    const rows = sequence.rowsReady;
    if (rows === 0 || rows > budget) continue;
    if (stages > 1 && (sequence.tokensInFlight > 0 || planned.rows.length === generatingMax)) continue;
    planned.sequences.push(sequence);
    planned.rows.push(rows);
    budget -= rows;
  }
  if (prompts === 0) return;
  for (let index = 0; index < running.length && budget > 0; index++) {
    const sequence = running[index] as S;
    if (sequence.isGenerating) continue;
    const rows = Math.min(sequence.rowsReady, sequence.rowsPerStepMax, budget);
    if (rows === 0) continue;
    planned.sequences.push(sequence);
    planned.rows.push(rows);
    budget -= rows;
  }
}

/**
 * Gives what {@link planBatch} left of the budget to optional rows, so that drafts never take a row from anybody's next token or prompt. Of the
 * generating sequences those with more rows come first: their order means nothing, and devices that record a graph for each mix of
 * row counts meet fewer mixes.
 * @returns the optional rows planned
 */
export function addOptionalRows<S extends Schedulable>(
  planned: PlannedRows<S>,
  batchTokensMax: number,
): number {
  const { sequences, rows } = planned;
  let budget = batchTokensMax;
  for (const own of rows) budget -= own;
  let added = 0;
  for (let index = 0; index < sequences.length && budget > 0; index++) {
    const sequence = sequences[index] as S;
    // What follows the last row of a prompt can run with that row alone.
    if (sequence.rowsOptional === 0 || rows[index] !== sequence.rowsReady) continue;
    const more = Math.min(sequence.rowsOptional, budget);
    rows[index] = (rows[index] as number) + more;
    budget -= more;
    added += more;
  }
  if (added > 0) sortGenerating(planned);
  return added;
}

function sortGenerating<S extends Schedulable>({ sequences, rows }: PlannedRows<S>): void {
  const generating = sequences
    .map((sequence, index) => ({ sequence, rows: rows[index] as number }))
    .filter(({ sequence }) => sequence.isGenerating)
    .sort((a, b) => b.rows - a.rows);
  for (const [index, one] of generating.entries()) {
    sequences[index] = one.sequence;
    rows[index] = one.rows;
  }
}

/** How many generating sequences each of the steps in flight gets. */
function shareOf(running: readonly Schedulable[], stages: number): number {
  let generating = 0;
  for (const sequence of running) if (sequence.isGenerating) generating++;
  return Math.ceil(generating / stages);
}
