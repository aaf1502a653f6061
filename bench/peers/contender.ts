/** What both sides are asked to do. Tokens are ids of the model's own vocabulary; every choice is greedy. */
export interface Scenario {
  /** One prompt a sequence, all submitted at once. */
  prompts: number[][];
  /** Tokens to make for each. */
  generate: number;
}

/** How one run of a scenario went. */
export interface RunTimes {
  /** From submission to the first token of the last sequence to get one. */
  firstTokenMs: number;
  /** From submission to the last token. */
  totalMs: number;
  /** From the first token of all to the last. */
  decodeMs: number;
  generated: number;
}

export interface ContenderOptions {
  modelPath: string;
  threads: number;
  sequences: number;
  /** Positions a sequence. */
  contextLength: number;
}

/** One of the two engines in comparison, loaded in a process of its own. */
export interface Contender {
  run(scenario: Scenario): Promise<RunTimes>;
  /** Bytes of weights plus KV in use after the last run, where the engine knows. */
  accountedBytes?(): number;
}

/** Collects token arrivals of a run. */
export class RunClock {
  readonly #startMs = performance.now();
  #firstMs: number | undefined;
  #lastFirstMs = 0;
  #lastMs = 0;
  #generated = 0;

  token(isFirstOfSequence: boolean): void {
    const nowMs = performance.now();
    this.#firstMs ??= nowMs;
    if (isFirstOfSequence) this.#lastFirstMs = nowMs;
    this.#lastMs = nowMs;
    this.#generated++;
  }

  times(): RunTimes {
    return {
      firstTokenMs: this.#lastFirstMs - this.#startMs,
      totalMs: this.#lastMs - this.#startMs,
      decodeMs: this.#lastMs - (this.#firstMs ?? this.#startMs),
      generated: this.#generated,
    };
  }
}
