import type { AnswerReading } from '../answer-parser.ts';
import type { AnswerPart, PartParser } from '../answer-parts.ts';

/** An event of the stream, before it is numbered. */
export interface OutputEvent {
  type: string;
  [field: string]: unknown;
}

interface MessageOutput {
  type: 'message';
  id: string;
  role: 'assistant';
  status: string;
  content: { type: 'output_text'; text: string; annotations: []; logprobs: [] }[];
}
interface ReasoningOutput {
  type: 'reasoning';
  id: string;
  status: string;
  summary: [];
  content: { type: 'reasoning_text'; text: string }[];
}
interface CallOutput {
  type: 'function_call';
  id: string;
  status: string;
  call_id: string;
  name: string;
  arguments: string;
}

/** One item of a response's output. */
export type OutputItem = MessageOutput | ReasoningOutput | CallOutput;

const textKinds = {
  message: { part: 'output_text', event: 'response.output_text', id: 'msg' },
  reasoning: { part: 'reasoning_text', event: 'response.reasoning_text', id: 'rs' },
} as const;

/** An answer's text as output items, and the events that tell of their growth. */
export class Output {
  readonly items: OutputItem[] = [];
  readonly #reading: AnswerReading | undefined;
  readonly #parser: PartParser | undefined;
  readonly #id: string;
  #isOpen = false;
  #isReasoning = false;
  /** Tokens generated while the model reasoned. */
  reasoningTokens = 0;

  /** @param id unique part of the items' ids */
  constructor(reading: AnswerReading | undefined, id: string) {
    this.#reading = reading;
    this.#parser = reading?.createParser();
    this.#id = id;
  }

  /** @param tokens how many the text was made of */
  push(text: string, tokens: number): OutputEvent[] {
    const parts = this.#parser ? this.#parser.push(text) : plain(text);
    const last = parts.at(-1);
    if (last) this.#isReasoning = last.kind === 'reasoning';
    if (this.#isReasoning) this.reasoningTokens += tokens;
    return parts.flatMap((part) => this.#add(part));
  }

  /** The answer is over. @param status of the item that was under way: `completed` or `incomplete` */
  finish(status: string): OutputEvent[] {
    const events = (this.#parser?.flush() ?? []).flatMap((part) => this.#add(part));
    // An answer without a text is a message without one.
    if (this.items.length === 0) events.push(...this.#open('message'));
    return [...events, ...this.#close(status)];
  }

  get #place(): number {
    return this.items.length - 1;
  }

  #add(part: AnswerPart): OutputEvent[] {
    if (part.kind === 'call') return [...this.#close('completed'), ...this.#openCall(part.name)];
    if (part.kind === 'arguments') return this.#grow(part.text);
    const kind = part.kind === 'text' ? 'message' : 'reasoning';
    const opening =
      this.#isOpen && this.items.at(-1)?.type === kind
        ? []
        : [...this.#close('completed'), ...this.#open(kind)];
    return [...opening, ...this.#grow(part.text)];
  }

  #open(kind: 'message' | 'reasoning'): OutputEvent[] {
    this.#isOpen = true;
    const id = `${textKinds[kind].id}_${this.#id}${this.items.length}`;
    const item: OutputItem =
      kind === 'message'
        ? { type: kind, id, role: 'assistant', status: 'in_progress', content: [] }
        : { type: kind, id, status: 'in_progress', summary: [], content: [] };
    this.items.push(item);
    const added = this.#event('response.output_item.added', { item: structuredClone(item) });
    if (item.type === 'message')
      item.content.push({ type: 'output_text', text: '', annotations: [], logprobs: [] });
    else item.content.push({ type: 'reasoning_text', text: '' });
    const part = structuredClone(item.content[0]);
    return [added, this.#event('response.content_part.added', { item_id: id, content_index: 0, part })];
  }

  #openCall(name: string): OutputEvent[] {
    this.#isOpen = true;
    const id = `fc_${this.#id}${this.items.length}`;
    const call_id = this.#reading?.callId() ?? id;
    const item: OutputItem = {
      type: 'function_call',
      id,
      status: 'in_progress',
      call_id,
      name,
      arguments: '',
    };
    this.items.push(item);
    return [this.#event('response.output_item.added', { item: { ...item } })];
  }

  #grow(delta: string): OutputEvent[] {
    const item = this.items.at(-1);
    if (!item) return [];
    if (item.type === 'function_call') {
      item.arguments += delta;
      return [this.#event('response.function_call_arguments.delta', { item_id: item.id, delta })];
    }
    const [part] = item.content;
    if (part) part.text += delta;
    const fields = { item_id: item.id, content_index: 0, delta };
    const type = `${textKinds[item.type].event}.delta`;
    return [this.#event(type, item.type === 'message' ? { ...fields, logprobs: [] } : fields)];
  }

  #close(status: string): OutputEvent[] {
    const item = this.items.at(-1);
    if (!item || !this.#isOpen) return [];
    this.#isOpen = false;
    item.status = status;
    const done = this.#event('response.output_item.done', { item });
    if (item.type === 'function_call') {
      const fields = { item_id: item.id, name: item.name, arguments: item.arguments };
      return [this.#event('response.function_call_arguments.done', fields), done];
    }
    const [part] = item.content;
    const where = { item_id: item.id, content_index: 0 };
    const logprobs = item.type === 'message' ? { logprobs: [] } : {};
    return [
      this.#event(`${textKinds[item.type].event}.done`, { ...where, text: part?.text, ...logprobs }),
      this.#event('response.content_part.done', { ...where, part }),
      done,
    ];
  }

  #event(type: string, fields: object): OutputEvent {
    return { type, output_index: this.#place, ...fields };
  }
}

function plain(text: string): AnswerPart[] {
  return text === '' ? [] : [{ kind: 'text', text }];
}
