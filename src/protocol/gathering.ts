import type { Answer } from '../generation/generation-group.ts';
import type { ByteBudget, ByteHolder } from './byte-budget.ts';
import { gatheredBytes } from './limits.ts';

/** Bytes between two reports to the budget: this runs for every token. */
const reportBytes = 64 * 1024;

/** Counts what an answer that is sent as a whole keeps while it grows, within the bound for all unread answers. */
export class Gathering implements ByteHolder {
  heldBytes = 0;
  readonly #budget: ByteBudget;
  readonly #onCut: () => void;
  #reported = 0;

  /** @param onCut there is no room: the answer is to be given up */
  constructor(budget: ByteBudget, onCut: () => void) {
    this.#budget = budget;
    this.#onCut = onCut;
  }

  /** It grows as long as the engine works, so it never counts as stalled. */
  get movedBytes(): number {
    return performance.now();
  }

  /** The answer, counted as it grows. */
  counting(answer: Answer): Answer {
    return {
      start: (prompt, start) => {
        this.#add((start.promptLogprobs?.length ?? 0) * gatheredBytes.logprob);
        answer.start(prompt, start);
      },
      delta: (choice, delta) => {
        let bytes = delta.tokens.length * gatheredBytes.token + delta.text.length;
        for (const { top } of delta.logprobs ?? []) bytes += (1 + top.tokens.length) * gatheredBytes.logprob;
        this.#add(bytes + (delta.embedding?.length ?? 0) * gatheredBytes.embedded);
        answer.delta(choice, delta);
      },
      end: (usage) => answer.end(usage),
      fail: (error) => answer.fail(error),
    };
  }

  cut(): void {
    this.#onCut();
  }

  /** The answer is handed over, or given up. */
  close(): void {
    this.heldBytes = 0;
    this.#budget.remove(this);
  }

  #add(bytes: number): void {
    this.heldBytes += bytes;
    if (this.heldBytes - this.#reported < reportBytes) return;
    this.#reported = this.heldBytes;
    this.#budget.update(this);
  }
}
