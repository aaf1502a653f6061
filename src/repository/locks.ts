/** One piece of work at a time for each name. */
export class NamedLocks {
  readonly #locks = new Map<string, Promise<void>>();

  /** Runs `work` after what was asked for that name before, whether that went well or not. */
  run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#locks.get(name) ?? Promise.resolve();
    const mine = before.then(work, work);
    const settled = mine.then(
      () => {},
      () => {},
    );
    this.#locks.set(name, settled);
    void settled.then(() => {
      if (this.#locks.get(name) === settled) this.#locks.delete(name);
    });
    return mine;
  }

  isHeld(name: string): boolean {
    return this.#locks.has(name);
  }

  /** Resolves when everything that was asked so far is over. */
  async idle(): Promise<void> {
    await Promise.all(this.#locks.values());
  }
}
