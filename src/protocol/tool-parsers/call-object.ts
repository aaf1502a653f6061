import type { AnswerPart } from '../answer-parts.ts';
import { JsonValue } from './json-value.ts';

const argumentKeys: readonly string[] = ['arguments', 'parameters', 'args'];

type State = 'open' | 'key' | 'in-key' | 'colon' | 'value' | 'done' | 'failed';

/**
 * One `{"name": …, "arguments": {…}}` as it arrives, its keys in any order. Arguments go out as the model writes them once the name is
 * known. `failed`: it is no call; {@link raw} is then what it took.
 */
export class CallObject {
  readonly #call: number;
  readonly #isKnown: (name: string) => boolean;
  readonly #parts: AnswerPart[] = [];
  #state: State = 'open';
  #value = new JsonValue();
  #key = '';
  #text = '';
  #name: string | undefined;
  /** Arguments seen so far; those before the name wait for it. */
  #arguments = '';
  #isQuoted = false;
  /** Everything taken. */
  raw = '';

  /** @param isKnown whether a tool of that name may be called; where no marker says that this is a call, it must have been offered */
  constructor(call: number, isKnown: (name: string) => boolean) {
    this.#call = call;
    this.#isKnown = isKnown;
  }

  get done(): boolean {
    return this.#state === 'done';
  }

  get failed(): boolean {
    return this.#state === 'failed';
  }

  /** Whether its beginning was told, so that it cannot be text any more. */
  get announced(): boolean {
    return this.#name !== undefined;
  }

  /** How many characters of `text` from `from` it took: all, unless it is done or failed before. */
  take(text: string, from: number): number {
    let at = from;
    while (at < text.length && this.#state !== 'done' && this.#state !== 'failed') at += this.#step(text, at);
    this.raw += text.slice(from, at);
    return at - from;
  }

  /** The parts that became certain since the last time. */
  parts(): AnswerPart[] {
    return this.#parts.splice(0);
  }

  #step(text: string, at: number): number {
    const unit = text[at] as string;
    if (this.#state === 'in-key') return this.#takeKey(text, at);
    if (this.#state === 'value') return this.#takeValue(text, at);
    if (/\s/.test(unit)) return 1;
    this.#state = this.#next(unit);
    // A key's opening quote is part of it; so is a value's first character.
    return this.#state === 'in-key' || this.#state === 'failed' ? 0 : 1;
  }

  #next(unit: string): State {
    this.#value = new JsonValue();
    this.#text = '';
    if (this.#state === 'open') return unit === '{' ? 'key' : 'failed';
    if (this.#state === 'colon') return unit === ':' ? 'value' : 'failed';
    if (unit === '"') return 'in-key';
    if (unit === ',') return 'key';
    if (unit === '}') return this.#end();
    return 'failed';
  }

  #takeKey(text: string, at: number): number {
    const taken = this.#value.take(text, at);
    this.#text += text.slice(at, at + taken);
    if (!this.#value.done) return taken;
    this.#key = String(parsed(this.#text) ?? '');
    this.#state = 'colon';
    return taken;
  }

  #takeValue(text: string, at: number): number {
    const taken = this.#value.take(text, at);
    const piece = text.slice(at, at + taken);
    if (argumentKeys.includes(this.#key)) this.#takeArguments(piece);
    else this.#text += piece;
    if (!this.#value.done) return taken;
    this.#state = 'key';
    if (this.#isQuoted && argumentKeys.includes(this.#key)) this.#unquote();
    const isName = this.#key === 'name' || (this.#key === 'function' && this.#text.trim().startsWith('"'));
    if (isName) this.#named(parsed(this.#text));
    return taken;
  }

  /** Some models write the arguments as a string of JSON: that can only be read whole. */
  #takeArguments(piece: string): void {
    const isFirst = this.#arguments === '';
    const text = isFirst ? piece.trimStart() : piece;
    if (isFirst && text.startsWith('"')) this.#isQuoted = true;
    this.#arguments += text;
    if (this.#name !== undefined && !this.#isQuoted) this.#tell(text);
  }

  #unquote(): void {
    this.#isQuoted = false;
    this.#arguments = String(parsed(this.#arguments) ?? this.#arguments);
    if (this.#name !== undefined) this.#tell(this.#arguments);
  }

  #named(name: unknown): void {
    if (typeof name !== 'string' || this.#name !== undefined || !this.#isKnown(name)) {
      this.#state = 'failed';
      return;
    }
    this.#name = name;
    this.#parts.push({ kind: 'call', call: this.#call, name });
    if (!this.#isQuoted) this.#tell(this.#arguments);
  }

  #end(): State {
    if (this.#name === undefined) return 'failed';
    if (this.#arguments === '') this.#tell('{}');
    return 'done';
  }

  #tell(text: string): void {
    if (text !== '') this.#parts.push({ kind: 'arguments', call: this.#call, text });
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
