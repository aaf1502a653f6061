import type { ServerResponse } from 'node:http';
import type { NereidError } from '../../base/errors.ts';
import type { GenerationDelta, GenerationUsage } from '../../generation/generation.ts';
import type { Answer } from '../../generation/generation-group.ts';
import type { RequestStart } from '../../runtime/requests/events.ts';
import type { AnswerReading } from '../answer-parser.ts';
import type { StreamOver } from '../answering.ts';
import type { EventStream } from '../event-stream.ts';
import { loggedError } from '../request-log.ts';
import { errorResponse } from './errors.ts';
import { CompletionLogprobsBuilder, chatLogprobs } from './logprobs.ts';
import { PartDeltas } from './part-deltas.ts';
import { type AnswerSettings, type Usage, usageOf } from './responses.ts';

const eventEnd = '\n\n';

/** The text frames of one kind of stream. */
interface Frames {
  /** What a choice begins with: the assistant's role, or the echoed prompt. '' for nothing. */
  opening(choice: number, start: RequestStart | undefined): string;
  delta(choice: number, delta: GenerationDelta): string;
}

/** Pieces of JSON that do not change over a stream, made once. */
class FrameParts {
  readonly head: string;
  readonly tail: string;
  readonly usageHead: string;
  readonly #usage: RunningUsage | undefined;

  constructor(settings: AnswerSettings, object: string, usage: RunningUsage | undefined) {
    this.#usage = usage;
    const { id, createdSeconds, modelName, model } = settings;
    const fields = JSON.stringify({
      id,
      object,
      created: createdSeconds,
      model: modelName,
      system_fingerprint: model.fingerprint,
    });
    this.head = `data: ${fields.slice(0, -1)},"choices":[`;
    this.tail = `]${settings.includeUsage ? ',"usage":null' : ''}}${eventEnd}`;
    this.usageHead = `${this.head}],"usage":`;
  }

  /** A whole event around one choice's JSON. */
  event(choice: string): string {
    if (!this.#usage) return this.head + choice + this.tail;
    return `${this.head}${choice}],"usage":${JSON.stringify(this.#usage.now)}}${eventEnd}`;
  }
}

/** Token counts so far, over all choices. */
class RunningUsage {
  readonly #settings: AnswerSettings;
  readonly #promptTokens: number;
  readonly #tokensOfChoice: number[] = [];
  #cachedTokens = 0;

  constructor(settings: AnswerSettings) {
    this.#settings = settings;
    this.#promptTokens = settings.prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  }

  started(start: RequestStart): void {
    this.#cachedTokens += start.cachedTokens;
  }

  counted(choice: number, tokenCount: number): void {
    this.#tokensOfChoice[choice] = tokenCount;
  }

  get now(): Usage {
    const completionTokens = this.#tokensOfChoice.reduce((sum, count) => sum + count, 0);
    const counts = { promptTokens: this.#promptTokens, cachedTokens: this.#cachedTokens, completionTokens };
    return usageOf(counts, this.#settings);
  }
}

function promptOf(choice: number, settings: AnswerSettings): number {
  return Math.floor(choice / settings.choicesPerPrompt);
}

function tokenIds(delta: GenerationDelta, settings: AnswerSettings): string {
  return settings.returnTokenIds ? `,"token_ids":${JSON.stringify(delta.tokens)}` : '';
}

const notFinished = '"finish_reason":null';

/** `"finish_reason":…` and, at the end, vLLM's stop_reason. */
function finishOf(delta: GenerationDelta, isCall = false): string {
  if (!delta.finish) return notFinished;
  return `"finish_reason":"${isCall ? 'tool_calls' : delta.finish}","stop_reason":${JSON.stringify(delta.stopReason ?? null)}`;
}

/** What an event tells of a step's tokens, as JSON. */
interface Details {
  logprobs: string;
  ids: string;
}

const noDetails: Details = { logprobs: 'null', ids: '' };

class ChatFrames implements Frames {
  readonly #settings: AnswerSettings;
  readonly #parts: FrameParts;
  readonly #prefixes: string[] = [];
  readonly #suffix: string;
  readonly #plain: boolean;
  readonly #deltas: (PartDeltas | undefined)[] = [];

  constructor(settings: AnswerSettings, parts: FrameParts) {
    this.#settings = settings;
    this.#parts = parts;
    this.#suffix = `},"logprobs":null,"finish_reason":null}${parts.tail}`;
    this.#plain =
      settings.logprobs === undefined &&
      !settings.returnTokenIds &&
      !settings.continuousUsage &&
      !settings.reading;
    for (let choice = 0; choice < settings.choicesPerPrompt; choice++) {
      this.#prefixes.push(`${parts.head}{"index":${choice},"delta":{"content":`);
    }
  }

  opening(choice: number): string {
    const { returnTokenIds, prompts, echo } = this.#settings;
    const ids = returnTokenIds ? `,"prompt_token_ids":${JSON.stringify([...(prompts[0] ?? [])])}` : '';
    const delta = JSON.stringify({ role: 'assistant', content: echo?.[0] ?? '' });
    return this.#parts.event(
      `{"index":${choice},"delta":${delta},"logprobs":null,"finish_reason":null${ids}}`,
    );
  }

  delta(choice: number, delta: GenerationDelta): string {
    // The way of nearly every token.
    if (this.#plain && !delta.finish)
      return this.#prefixes[choice] + JSON.stringify(delta.text) + this.#suffix;
    const { reading } = this.#settings;
    if (reading) return this.#read(choice, delta, reading);
    // OpenAI's last delta is empty unless text comes with it.
    const content = delta.finish && delta.text === '' ? '{}' : `{"content":${JSON.stringify(delta.text)}}`;
    return this.#frame(choice, content, this.#detailsOf(delta), finishOf(delta));
  }

  /** An event for each part that the text turned out to hold; the first one has the step's tokens, the last one the end. */
  #read(choice: number, delta: GenerationDelta, reading: AnswerReading): string {
    let deltas = this.#deltas[choice];
    if (!deltas) {
      deltas = new PartDeltas(reading, this.#settings.includeReasoning ?? true);
      this.#deltas[choice] = deltas;
    }
    const contents = deltas.push(delta.text, delta.finish !== undefined);
    const details = this.#detailsOf(delta);
    const hasDetails = this.#settings.logprobs !== undefined || this.#settings.returnTokenIds;
    if (delta.finish) contents.push('{}');
    else if (contents.length === 0 && hasDetails && delta.tokens.length > 0) contents.push('{}');
    const isCall = deltas.hasCalls && delta.finish === 'stop';
    return contents
      .map((content, place) => {
        const isLast = delta.finish !== undefined && place === contents.length - 1;
        const finish = isLast ? finishOf(delta, isCall) : notFinished;
        return this.#frame(choice, content, place === 0 ? details : noDetails, finish);
      })
      .join('');
  }

  #detailsOf(delta: GenerationDelta): Details {
    const { logprobs, model } = this.#settings;
    if (logprobs === undefined) return { logprobs: 'null', ids: tokenIds(delta, this.#settings) };
    const content = chatLogprobs(model.tokenizer, delta.tokens, delta.logprobs ?? [], logprobs);
    return { logprobs: JSON.stringify({ content, refusal: null }), ids: tokenIds(delta, this.#settings) };
  }

  #frame(choice: number, content: string, { logprobs, ids }: Details, finish: string): string {
    return this.#parts.event(`{"index":${choice},"delta":${content},"logprobs":${logprobs},${finish}${ids}}`);
  }
}

class CompletionFrames implements Frames {
  readonly #settings: AnswerSettings;
  readonly #parts: FrameParts;
  readonly #logprobs: (CompletionLogprobsBuilder | undefined)[] = [];

  constructor(settings: AnswerSettings, parts: FrameParts) {
    this.#settings = settings;
    this.#parts = parts;
    for (let i = 0; i < settings.prompts.length * settings.choicesPerPrompt; i++) {
      const { logprobs, model, skipSpecialTokens } = settings;
      this.#logprobs.push(
        logprobs === undefined
          ? undefined
          : new CompletionLogprobsBuilder(model.tokenizer, logprobs, skipSpecialTokens),
      );
    }
  }

  opening(choice: number, start: RequestStart | undefined): string {
    const { echo, prompts, returnTokenIds } = this.#settings;
    const prompt = promptOf(choice, this.#settings);
    const tokens = prompts[prompt] ?? new Int32Array();
    const ids = returnTokenIds ? `,"prompt_token_ids":${JSON.stringify([...tokens])}` : '';
    if (!echo && ids === '') return '';
    const echoed = echo?.[prompt] ?? '';
    const text = JSON.stringify(echoed);
    const builder = echo ? this.#logprobs[choice] : undefined;
    const logprobs = builder
      ? JSON.stringify(builder.buildEchoed(tokens, start?.promptLogprobs ?? [], echoed))
      : 'null';
    return this.#parts.event(
      `{"index":${choice},"text":${text},"logprobs":${logprobs},"finish_reason":null${ids}}`,
    );
  }

  delta(choice: number, delta: GenerationDelta): string {
    const { promptOnly } = this.#settings;
    if (promptOnly && !delta.finish) return '';
    const text = JSON.stringify(promptOnly ? '' : delta.text);
    const builder = promptOnly ? undefined : this.#logprobs[choice];
    const logprobs = builder ? JSON.stringify(builder.build(delta.tokens, delta.logprobs ?? [])) : 'null';
    const ids = promptOnly ? '' : tokenIds(delta, this.#settings);
    return this.#parts.event(
      `{"index":${choice},"text":${text},"logprobs":${logprobs},${finishOf(delta)}${ids}}`,
    );
  }
}

/**
 * An answer as server-sent events: one event for what one step did to one choice. The head goes out with the engine's first event, so
 * that what fails before has a status of its own.
 */
export class StreamedAnswer implements Answer {
  readonly #settings: AnswerSettings;
  readonly #stream: EventStream;
  readonly #response: ServerResponse;
  readonly #parts: FrameParts;
  readonly #frames: Frames;
  readonly #onOver: StreamOver;
  readonly #usage: RunningUsage | undefined;
  readonly #opened = new Set<number>();
  readonly #starts: RequestStart[] = [];
  #headSent = false;
  #lastFinish = '';

  constructor(
    kind: 'chat' | 'completion',
    settings: AnswerSettings,
    stream: EventStream,
    response: ServerResponse,
    onOver: StreamOver,
  ) {
    this.#settings = settings;
    this.#stream = stream;
    this.#response = response;
    this.#onOver = onOver;
    const chat = kind === 'chat';
    this.#usage = settings.continuousUsage ? new RunningUsage(settings) : undefined;
    this.#parts = new FrameParts(settings, chat ? 'chat.completion.chunk' : 'text_completion', this.#usage);
    this.#frames = chat ? new ChatFrames(settings, this.#parts) : new CompletionFrames(settings, this.#parts);
  }

  start(prompt: number, start: RequestStart): void {
    this.#starts[prompt] = start;
    this.#usage?.started(start);
    this.#sendHead();
  }

  delta(choice: number, delta: GenerationDelta): void {
    let frames = '';
    if (!this.#opened.has(choice)) {
      this.#sendHead();
      this.#opened.add(choice);
      frames = this.#frames.opening(choice, this.#starts[promptOf(choice, this.#settings)]);
    }
    this.#usage?.counted(choice, delta.tokenCount);
    frames += this.#frames.delta(choice, delta);
    if (delta.finish) this.#lastFinish = delta.finish;
    if (frames !== '') this.#stream.write(frames);
  }

  end(usage: GenerationUsage): void {
    const usageEvent = this.#settings.includeUsage
      ? `${this.#parts.usageHead}${JSON.stringify(usageOf(usage, this.#settings))}}${eventEnd}`
      : '';
    this.#stream.end(`${usageEvent}data: [DONE]${eventEnd}`);
    this.#onOver(this.#lastFinish);
  }

  /** Before the head: an ordinary error response. After it: an error event, and no `[DONE]`. */
  fail(error: NereidError): void {
    const { status, headers, body } = errorResponse(error);
    const text = JSON.stringify(body);
    if (this.#headSent) this.#stream.end(`data: ${text}${eventEnd}`);
    else {
      this.#stream.abandon();
      this.#response.writeHead(status, { ...headers, 'content-type': 'application/json; charset=utf-8' });
      this.#response.end(text);
    }
    this.#onOver('error', loggedError(error, body));
  }

  #sendHead(): void {
    if (this.#headSent) return;
    this.#headSent = true;
    this.#stream.open();
  }
}
