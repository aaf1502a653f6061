/** How a request's beams are searched. Names and meanings follow HF transformers' `GenerationConfig`. */
export interface BeamParameters {
  /** Beams kept at each step. */
  width: number;
  /** A text's score is its log-probability over its length to this power: above 0 favours long ones. */
  lengthPenalty: number;
  /** `true`: ends with `width` finished texts; `false`: as soon as none better is likely; `never`: as soon as none better is possible. */
  earlyStopping: boolean | 'never';
  /** Added to a candidate's score for each place of its beam below the best (TensorRT-LLM's `beam_search_diversity_rate`). */
  diversityRate: number;
}

/** A token that may follow a beam. */
export interface BeamCandidate {
  token: number;
  /** Of the token behind its beam, natural logarithm. */
  logprob: number;
  /** Whether it ends the text. */
  isStop: boolean;
}

/** A beam's next token. */
export interface BeamStep {
  /** Place of the beam that it continues, among those that {@link BeamSearch.advance} was given. */
  parent: number;
  token: number;
  logprob: number;
  /** Log-probability of the whole text. */
  sum: number;
}

/** A text that ended. */
export interface BeamEnding extends BeamStep {
  score: number;
  isStop: boolean;
}

/** What a step did. */
export interface BeamAdvance {
  /** The beams that go on, best first. */
  running: BeamStep[];
  /** Texts that ended in this step and are among the best so far. */
  ended: BeamEnding[];
  isDone: boolean;
}

/**
 * Beam search over one prompt, as HF transformers 5 does it: of all continuations of all beams the best `width` that do not end go on, and those that end
 * and are among the best `width` are kept as finished texts, at most `width` of them. Pure: it knows tokens and numbers only.
 */
export class BeamSearch {
  readonly #parameters: BeamParameters;
  readonly #tokensMax: number;
  /** Scores of finished texts, best first. */
  #finished: number[] = [];
  /** Log-probabilities of the running beams, in their order. */
  #sums: number[] = [0];
  #length = 0;

  /** @param tokensMax tokens after which every text ends */
  constructor(parameters: BeamParameters, tokensMax: number) {
    this.#parameters = parameters;
    this.#tokensMax = tokensMax;
  }

  /**
   * One step.
   * @param candidates by running beam: at least its `width` likeliest tokens that do not end the text, and those that do
   */
  advance(candidates: readonly (readonly BeamCandidate[])[]): BeamAdvance {
    const { width, earlyStopping } = this.#parameters;
    const ranked = this.#ranked(candidates);
    this.#length++;
    const isLast = this.#length >= this.#tokensMax;
    const isFull = this.#finished.length >= width;
    const ended =
      isFull && earlyStopping === true
        ? []
        : ranked
            .slice(0, width)
            .filter(({ isStop }) => isStop || isLast)
            .map((one) => ({ ...one, score: this.#score(one.sum, this.#length) }));
    const kept = this.#keep(ended);
    const running = isLast ? [] : ranked.filter(({ isStop }) => !isStop).slice(0, width);
    this.#sums = running.map(({ sum }) => sum);
    return { running, ended: kept, isDone: running.length === 0 || this.#isDone() };
  }

  #ranked(candidates: readonly (readonly BeamCandidate[])[]): (BeamStep & { isStop: boolean })[] {
    const { diversityRate } = this.#parameters;
    const all = candidates.flatMap((own, parent) => {
      const sum = this.#sums[parent] ?? Number.NEGATIVE_INFINITY;
      return own.map(({ token, logprob, isStop }) => ({
        parent,
        token,
        logprob,
        isStop,
        sum: sum + logprob,
      }));
    });
    const rankOf = ({ sum, parent }: BeamStep) => sum + diversityRate * parent;
    return all.sort((a, b) => rankOf(b) - rankOf(a) || a.parent - b.parent || a.token - b.token);
  }

  /** @returns those of the endings that are among the best `width` of all */
  #keep(ended: readonly BeamEnding[]): BeamEnding[] {
    const { width } = this.#parameters;
    const all = [...this.#finished, ...ended.map(({ score }) => score)].sort((a, b) => b - a);
    this.#finished = all.slice(0, width);
    const worst = this.#finished.at(-1) ?? Number.NEGATIVE_INFINITY;
    return ended.filter(({ score }) => score >= worst);
  }

  #isDone(): boolean {
    const { width, earlyStopping, lengthPenalty } = this.#parameters;
    if (this.#finished.length < width) return false;
    if (earlyStopping === true) return true;
    const longest = earlyStopping === 'never' && lengthPenalty > 0 ? this.#tokensMax : this.#length;
    const best = this.#score(this.#sums[0] ?? Number.NEGATIVE_INFINITY, longest);
    return best <= (this.#finished.at(-1) as number);
  }

  #score(sum: number, length: number): number {
    return sum / length ** this.#parameters.lengthPenalty;
  }
}
