import { hash32, SeededRandom } from '../../base/random.ts';
import type { Tokenizer } from '../../tokenizer/types.ts';
import { LoadError } from '../errors.ts';
import { turnsMax } from '../limits.ts';
import { readArrivalTrace } from './arrival-trace.ts';
import { type DatasetRow, readDataset } from './dataset.ts';
import { describeLength, lengthOf } from './lengths.ts';
import type { PlannedSession, PlannedTurn, Workload } from './plan.ts';
import { type MadePrompt, PromptMaker } from './prompt-maker.ts';
import type { LengthSpec, WorkloadSpec } from './spec.ts';

/** Answer length where neither the load nor the dataset says one. */
export const outputTokensDefault = 128;

/** Characters of a salt, and how many prompt tokens it counts for where nothing can count. */
const saltLength = 8;
const saltTokens = 4;

/** Salts of the streams of random numbers that one seed feeds. */
const streams = { session: 1, order: 2, prefix: 3, salt: 4 } as const;

/** Turns of one session before cancelling, naming and salting, which are the same for every source. */
interface Source {
  description: string;
  distinctSessions?: number;
  turns(index: number, random: SeededRandom): PlannedTurn[];
}

/**
 * Reads what the spec names (dataset, tokenizer) and gives the workload.
 * @throws LoadError LOAD_DATASET_UNREADABLE, LOAD_DATASET_INVALID, LOAD_OPTION_INVALID; TokenizerError
 */
export async function openWorkload(spec: WorkloadSpec): Promise<Workload> {
  const tokenizer = spec.tokenizerFolder ? await openFolder(spec.tokenizerFolder) : undefined;
  const { sendsTokens, vocabularySize } = spec;
  const isText = spec.source.kind !== 'synthetic' && spec.source.kind !== 'replay';
  if (sendsTokens && isText && !tokenizer)
    throw new LoadError(
      'LOAD_OPTION_INVALID',
      'sending text as token ids needs a tokenizer; give --tokenizer FOLDER',
    );
  const maker = new PromptMaker({ tokenizer, sendsTokens, vocabularySize });
  const source = openSource(spec, maker, tokenizer);
  return {
    description: source.description,
    distinctSessions: spec.salted ? undefined : source.distinctSessions,
    session: (index) => sessionOf(spec, source, index, tokenizer),
  };
}

async function openFolder(folder: string): Promise<Tokenizer> {
  const { openTokenizer } = await import('../../tokenizer/open.ts');
  return openTokenizer(folder);
}

function sessionOf(
  spec: WorkloadSpec,
  source: Source,
  index: number,
  tokenizer: Tokenizer | undefined,
): PlannedSession {
  const random = new SeededRandom(hash32(spec.seed, index, streams.session));
  const turns = source.turns(index, random);
  const model = spec.models.length > 0 ? spec.models[random.integer(spec.models.length)] : undefined;
  for (const turn of turns) {
    if (spec.salted) salt(turn, hash32(spec.seed, index, streams.salt), tokenizer);
    if (random.next() < spec.cancelShare)
      turn.cancelAfterOutputs = 1 + random.integer(Math.max(1, turn.outputTokensMax - 1));
  }
  return { index, turns, model };
}

/** Makes a prompt's first tokens its own. */
function salt(turn: PlannedTurn, value: number, tokenizer: Tokenizer | undefined): void {
  if (turn.tokens) {
    const size = tokenizer?.vocabularySize ?? 1 << 14;
    const salted = new Int32Array(turn.tokens.length + 1);
    salted[0] = value % size;
    salted.set(turn.tokens, 1);
    turn.tokens = salted;
    turn.inputTokens++;
  } else if (turn.text !== undefined) {
    turn.text = `${value.toString(16).padStart(saltLength, '0')} ${turn.text}`;
    turn.inputTokens += saltTokens;
  }
}

function openSource(spec: WorkloadSpec, maker: PromptMaker, tokenizer: Tokenizer | undefined): Source {
  const { source } = spec;
  if (source.kind === 'synthetic') return syntheticSource(spec, source, maker);
  if (source.kind === 'replay') return replaySource(spec, source.path, maker);
  if (source.kind === 'fixed')
    return rowsSource(
      spec,
      source.prompts.map((prompt) => ({ prompt })),
      maker,
      tokenizer,
      `${source.prompts.length} fixed prompts`,
    );
  const rows = shortEnough(readDataset(source), spec, maker);
  // A dataset's order is no accident; vLLM shuffles too.
  const order = shuffled(rows, new SeededRandom(hash32(spec.seed, 0, streams.order)));
  return rowsSource(
    spec,
    order,
    maker,
    tokenizer,
    `${rows.length} entries of ${source.path} (${source.kind})`,
  );
}

/** Rows whose prompts fit. @throws LoadError LOAD_DATASET_INVALID if none does */
function shortEnough(rows: DatasetRow[], { inputTokensMax }: WorkloadSpec, maker: PromptMaker): DatasetRow[] {
  if (inputTokensMax === undefined) return rows;
  const short = rows.filter(({ prompt }) => maker.fromText(prompt).inputTokens <= inputTokensMax);
  if (short.length > 0) return short;
  throw new LoadError(
    'LOAD_DATASET_INVALID',
    `no prompt of the dataset has ${inputTokensMax} tokens or fewer`,
  );
}

function shuffled<T>(values: readonly T[], random: SeededRandom): T[] {
  const result = [...values];
  for (let i = result.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [result[i], result[j]] = [result[j] as T, result[i] as T];
  }
  return result;
}

function rowsSource(
  spec: WorkloadSpec,
  rows: readonly DatasetRow[],
  maker: PromptMaker,
  tokenizer: Tokenizer | undefined,
  description: string,
): Source {
  return {
    description,
    distinctSessions: rows.length,
    turns: (index, random) => {
      const row = rows[index % rows.length] as DatasetRow;
      const outputTokensMax = spec.output ? lengthOf(random, spec.output) : answerLength(row, tokenizer);
      return [{ ...maker.fromText(row.prompt), outputTokensMax }];
    },
  };
}

function answerLength({ outputTokens, answer }: DatasetRow, tokenizer: Tokenizer | undefined): number {
  if (outputTokens !== undefined) return outputTokens;
  if (answer === undefined) return outputTokensDefault;
  return Math.max(1, tokenizer ? tokenizer.encode(answer).length : Math.round(answer.length / 4));
}

function syntheticSource(
  spec: WorkloadSpec,
  source: Extract<WorkloadSpec['source'], { kind: 'synthetic' }>,
  maker: PromptMaker,
): Source {
  const { input, prefixes, prefixTokens, turns } = source;
  if (turns < 1 || turns > turnsMax)
    throw new LoadError('LOAD_OPTION_INVALID', `${turns} turns; a conversation has 1 to ${turnsMax}`);
  const output: LengthSpec = spec.output ?? { distribution: 'normal', mean: outputTokensDefault, spread: 0 };
  const shared: MadePrompt[] = [];
  for (let i = 0; i < (prefixTokens > 0 ? prefixes : 0); i++) {
    const random = new SeededRandom(hash32(spec.seed, i, streams.prefix));
    shared.push(maker.make(random, prefixTokens, undefined));
  }
  const prefix = shared.length > 0 ? `, behind ${shared.length} shared prefixes of ${prefixTokens}` : '';
  const talk = turns > 1 ? `, in conversations of ${turns} turns` : '';
  return {
    description: `synthetic, input ${describeLength(input)}, output ${describeLength(output)}${prefix}${talk}`,
    turns: (_, random) => {
      const beginning = shared.length > 0 ? shared[random.integer(shared.length)] : undefined;
      return Array.from({ length: turns }, (_unused, turn) => {
        const inputTokens = Math.min(
          lengthOf(random, input),
          spec.inputTokensMax ?? Number.POSITIVE_INFINITY,
        );
        const outputTokensMax = lengthOf(random, output);
        const prompt = maker.make(random, inputTokens, turn === 0 ? beginning : undefined);
        return { ...prompt, outputTokensMax };
      });
    },
  };
}

function replaySource(spec: WorkloadSpec, path: string, maker: PromptMaker): Source {
  const rows = readArrivalTrace(path);
  const fallback = outputTokensDefault;
  return {
    description: `lengths of ${rows.length} recorded requests (${path})`,
    turns: (index, random) => {
      const row = rows[index % rows.length];
      const prompt = maker.make(random, row?.inputTokens ?? fallback, undefined);
      const outputTokensMax = spec.output ? lengthOf(random, spec.output) : (row?.outputTokens ?? fallback);
      return [{ ...prompt, outputTokensMax }];
    },
  };
}
