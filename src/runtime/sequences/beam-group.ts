import { definite } from '../../base/errors.ts';
import type { StepOutput } from '../../device/step.ts';
import { RuntimeError } from '../errors.ts';
import type { FinishReason, TokenLogprobs } from '../requests/events.ts';
import { type LogitRow, rowOf } from '../sampling/logit-row.ts';
import { tokenLogprobs } from '../sampling/logprobs.ts';
import { noToken, type Sampler } from '../sampling/sampler.ts';
import type { RowConsumer, RowPlace } from '../step/row-consumer.ts';
import { beamCandidates } from './beam-candidates.ts';
import { type BeamCandidate, BeamSearch, type BeamStep } from './beam-search.ts';
import type { ActiveRequest, Sequence } from './sequence.ts';

/** A text of a beam search that ended. */
export interface BeamText {
  tokens: number[];
  /** One a token. */
  logprobs: TokenLogprobs[];
  /** Log-probability of the whole, and that over its length as the request weighs it. */
  sum: number;
  score: number;
  finish: Extract<FinishReason, 'stop' | 'length'>;
}

/** What a group needs of the engine. */
export interface BeamHost {
  readonly sampler: Sampler;
  readonly vocabularySize: number;
  /** `to` goes on behind what `from` has computed: it gives its own place in the cache back, and takes a fork of the other's. */
  fork(moves: readonly { from: Sequence; to: Sequence }[]): void;
  /** The search is over: the best texts, best first. */
  finished(owner: ActiveRequest, texts: readonly BeamText[]): void;
  failed(sequence: Sequence, error: RuntimeError): void;
}

interface Delivery {
  candidates: BeamCandidate[];
  /** What its tokens' log-probabilities are reported with, where asked for. */
  logprobsOf(token: number): TokenLogprobs;
}

/**
 * The beams of one request: as many sequences as it is wide, each with a row in a step. When all have theirs, the search says which beams go on with which
 * tokens; a beam that two continue is forked in the cache, one that none continues gives its place to that fork.
 */
export class BeamGroup {
  readonly #owner: ActiveRequest;
  readonly #host: BeamHost;
  readonly #search: BeamSearch;
  /** Running beams, best first. */
  #beams: Sequence[];
  readonly #deliveries = new Map<Sequence, Delivery>();
  /** Log-probabilities of what each running beam said. */
  readonly #said = new Map<Sequence, TokenLogprobs[]>();
  #texts: BeamText[] = [];

  constructor(owner: ActiveRequest, host: BeamHost) {
    this.#owner = owner;
    this.#host = host;
    const leader = definite(owner.sequences[0], 'a beam');
    const parameters = definite(owner.request.beams, 'beam parameters');
    this.#search = new BeamSearch(parameters, leader.positionsWorst - leader.promptLength);
    this.#beams = [leader];
  }

  /** Takes a beam's row. */
  consumer(sequence: Sequence): RowConsumer {
    return { take: (output, place) => this.#take(sequence, output, place) };
  }

  #take(sequence: Sequence, output: StepOutput, place: RowPlace): void {
    sequence.tokensInFlight--;
    if (sequence.state === 'finished') return;
    const { sampling, stopTokens, request } = this.#owner;
    const width = definite(request.beams, 'beam parameters').width;
    const row = rowOf(definite(output.logits, 'logits'), place.logits, this.#host.vocabularySize);
    if (!this.#shows(sequence, row)) return;
    const { generated } = sequence;
    const context = {
      sampling,
      generated,
      counts: sampling.hasPenalties ? sequence.counts : undefined,
      history: sampling.needsHistory ? sequence.history : undefined,
    };
    const temperature = sampling.isGreedy ? 1 : sampling.parameters.temperature;
    const candidates = this.#host.sampler.adjusted(row, context, () =>
      beamCandidates(row, width, stopTokens, temperature),
    );
    if (candidates.length === 0) {
      this.#host.failed(sequence, noToken(sequence.length));
      return;
    }
    const logprobsOf =
      sampling.logprobs < 0 ? () => unreported : reporter(row, candidates, sampling.logprobs);
    this.#deliveries.set(sequence, { candidates, logprobsOf });
    if (this.#deliveries.size === this.#beams.length) this.#advance();
  }

  /** Hands the logits behind the prompt to who asked for them. @returns false where there was no room for them */
  #shows(sequence: Sequence, row: LogitRow): boolean {
    const { isPromptComputed, outputs } = this.#owner;
    if (isPromptComputed || !outputs) return true;
    try {
      outputs.contextLogits(sequence.promptLength - 1, row);
      return true;
    } catch (thrown) {
      if (!(thrown instanceof RuntimeError)) throw thrown;
      this.#host.failed(sequence, thrown);
      return false;
    }
  }

  #advance(): void {
    const beams = this.#beams;
    const { running, ended, isDone } = this.#search.advance(
      beams.map((beam) => definite(this.#deliveries.get(beam), 'a row').candidates),
    );
    this.#owner.isPromptComputed = true;
    for (const { score, isStop, ...step } of ended) {
      const finish = isStop ? 'stop' : 'length';
      this.#texts.push({ ...this.#textOf(step), sum: step.sum, score, finish });
    }
    this.#texts.sort((a, b) => b.score - a.score);
    this.#texts.length = Math.min(this.#texts.length, this.#owner.sequences.length);
    if (isDone) this.#host.finished(this.#owner, this.#texts);
    else this.#continue(running);
    this.#deliveries.clear();
  }

  #textOf({ parent, token }: BeamStep): Pick<BeamText, 'tokens' | 'logprobs'> {
    const beam = definite(this.#beams[parent], 'a beam');
    const said = this.#said.get(beam) ?? [];
    return {
      tokens: [...beam.outputTokens(), token],
      logprobs: [...said, definite(this.#deliveries.get(beam), 'a row').logprobsOf(token)],
    };
  }

  /** Gives each beam that goes on a sequence: the one that it continues, or where that is taken, one that nobody continues. */
  #continue(running: readonly BeamStep[]): void {
    const steps = running.map((step) => ({ step, text: this.#textOf(step) }));
    const parents = running.map(({ parent }) => definite(this.#beams[parent], 'a beam'));
    const taken = new Set<Sequence>(parents);
    const free = this.#owner.sequences.filter((sequence) => !taken.has(sequence));
    const continued = new Set<Sequence>();
    const moves: { from: Sequence; to: Sequence }[] = [];
    const beams = parents.map((parent) => {
      if (!continued.has(parent)) {
        continued.add(parent);
        return parent;
      }
      const to = definite(free.pop(), 'a sequence for every beam');
      moves.push({ from: parent, to });
      return to;
    });
    this.#host.fork(moves);
    this.#said.clear();
    for (const [index, beam] of beams.entries()) {
      const { step, text } = definite(steps[index], 'a step');
      beam.push(step.token);
      this.#said.set(beam, text.logprobs);
    }
    // A sequence that no beam has now keeps its place for a later fork, and waits.
    for (const sequence of this.#owner.sequences) sequence.isHeld = !beams.includes(sequence);
    this.#beams = beams;
  }
}

const unreported: TokenLogprobs = {
  logprob: Number.NaN,
  top: { tokens: new Int32Array(0), logprobs: new Float32Array(0) },
};

/** The model's own log-probabilities of candidates. The row lives no longer than its step, so all is taken from it now. */
function reporter(row: LogitRow, candidates: readonly BeamCandidate[], count: number) {
  const likeliest = definite(candidates[0], 'a candidate').token;
  const { logprob, top } = tokenLogprobs(row, likeliest, count);
  const logSum = (row.logits[row.start + likeliest] as number) - logprob;
  const own = new Map(
    candidates.map(({ token }) => [token, (row.logits[row.start + token] as number) - logSum]),
  );
  return (token: number): TokenLogprobs => ({ logprob: own.get(token) ?? Number.NaN, top });
}
