/** Finds the end of one JSON value in text that arrives in pieces, without parsing it. */
export class JsonValue {
  #depth = 0;
  #inString = false;
  #isEscaped = false;
  #isBegun = false;
  #isScalar = false;
  done = false;

  /** How many characters of `text` from `from` belong to the value; `done` once its end was seen. Leading space belongs to none. */
  take(text: string, from: number): number {
    let at = from;
    for (; at < text.length && !this.done; at++) {
      const unit = text[at] as string;
      if (this.#inString) this.#inside(unit);
      else if (this.#isScalar && /[\s,}\]]/.test(unit)) {
        this.done = true;
        return at - from;
      } else this.#outside(unit);
    }
    return at - from;
  }

  #inside(unit: string): void {
    if (this.#isEscaped) this.#isEscaped = false;
    else if (unit === '\\') this.#isEscaped = true;
    else if (unit === '"') {
      this.#inString = false;
      this.done = this.#depth === 0;
    }
  }

  #outside(unit: string): void {
    if (unit === '"') this.#inString = true;
    else if (unit === '{' || unit === '[') this.#depth++;
    else if (unit === '}' || unit === ']') {
      this.#depth--;
      this.done = this.#depth <= 0;
    } else if (!this.#isBegun && !/\s/.test(unit)) this.#isScalar = this.#depth === 0;
    if (!/\s/.test(unit)) this.#isBegun = true;
  }
}
