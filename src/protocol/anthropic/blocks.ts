import type { AnswerReading } from '../answer-parser.ts';
import type { AnswerPart, PartParser } from '../answer-parts.ts';

/** An event of the stream. */
export interface BlockEvent {
  type: string;
  [field: string]: unknown;
}

/** A block of an answer's content. */
export type ContentBlock =
  | { type: 'text'; text: string }
  | { type: 'thinking'; thinking: string; signature: string }
  | { type: 'tool_use'; id: string; name: string; input: unknown };

/** An answer's text as content blocks, and the events that tell of their growth. */
export class ContentBlocks {
  readonly blocks: ContentBlock[] = [];
  readonly #reading: AnswerReading | undefined;
  readonly #parser: PartParser | undefined;
  #isOpen = false;
  /** The open call's arguments so far. */
  #json = '';

  constructor(reading: AnswerReading | undefined) {
    this.#reading = reading;
    this.#parser = reading?.createParser();
  }

  get hasCalls(): boolean {
    return this.blocks.some((block) => block.type === 'tool_use');
  }

  push(text: string): BlockEvent[] {
    const parts = this.#parser ? this.#parser.push(text) : plain(text);
    return parts.flatMap((part) => this.#add(part));
  }

  /** The answer is over. */
  finish(): BlockEvent[] {
    const events = (this.#parser?.flush() ?? []).flatMap((part) => this.#add(part));
    return [...events, ...this.#close()];
  }

  #add(part: AnswerPart): BlockEvent[] {
    if (part.kind === 'call') {
      const id = this.#reading?.callId() ?? '';
      return this.#open({ type: 'tool_use', id: id.replace(/^call_/, 'toolu_'), name: part.name, input: {} });
    }
    if (part.kind === 'arguments') {
      this.#json += part.text;
      return [this.#delta({ type: 'input_json_delta', partial_json: part.text })];
    }
    const type = part.kind === 'text' ? 'text' : 'thinking';
    const last = this.blocks.at(-1);
    const isSame = this.#isOpen && last?.type === type;
    const opening = isSame
      ? []
      : this.#open(type === 'text' ? { type, text: '' } : { type, thinking: '', signature: '' });
    const block = this.blocks.at(-1);
    if (block?.type === 'text') block.text += part.text;
    if (block?.type === 'thinking') block.thinking += part.text;
    const delta =
      type === 'text'
        ? { type: 'text_delta', text: part.text }
        : { type: 'thinking_delta', thinking: part.text };
    return [...opening, this.#delta(delta)];
  }

  #open(block: ContentBlock): BlockEvent[] {
    const closing = this.#close();
    this.blocks.push(block);
    this.#isOpen = true;
    this.#json = '';
    return [...closing, this.#event('content_block_start', { content_block: { ...block } })];
  }

  #close(): BlockEvent[] {
    if (!this.#isOpen) return [];
    this.#isOpen = false;
    const block = this.blocks.at(-1);
    if (block?.type === 'tool_use') block.input = parsed(this.#json);
    const events = [this.#event('content_block_stop', {})];
    // A thought ends with a signature in this API; there is nothing to sign here.
    if (block?.type === 'thinking') events.unshift(this.#delta({ type: 'signature_delta', signature: '' }));
    return events;
  }

  #delta(delta: object): BlockEvent {
    return this.#event('content_block_delta', { delta });
  }

  #event(type: string, fields: object): BlockEvent {
    return { type, index: this.blocks.length - 1, ...fields };
  }
}

function plain(text: string): AnswerPart[] {
  return text === '' ? [] : [{ kind: 'text', text }];
}

/** Arguments that were cut off are shown as they are: they are no object. */
function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return json === '' ? {} : { unfinished: json };
  }
}
