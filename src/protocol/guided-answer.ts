import { messageOf } from '../base/errors.ts';
import { RuntimeError } from '../runtime/errors.ts';
import {
  grammarFormat,
  structuralTagOf,
  type TagFormat,
} from '../runtime/guidance/grammar/structural-tag.ts';
import type { Guide } from '../runtime/guidance/guide.ts';
import type { AnswerFormats } from './answer-parser.ts';
import { ProtocolError } from './errors.ts';
import type { ReasoningFormat } from './reasoning/format.ts';
import type { ServedModel } from './served-model.ts';
import { type CallableTool, callsFormat, textWithCallsFormat } from './tool-parsers/guided-calls.ts';
import { toolFormats } from './tool-parsers/registry.ts';

/** Which calls an answer may or must be. */
export interface CallChoice {
  /** Offered; only these may be called. */
  tools: readonly CallableTool[];
  /** The answer must be a call. */
  isRequired: boolean;
  isParallel: boolean;
}

/** What an answer must look like: its text, its calls, or either. */
export interface AnswerWish extends CallChoice {
  guide: Guide | undefined;
}

/** A model's formats; calls that are forced have one in any case that a grammar can write. */
export async function formatsFor(model: ServedModel, { isRequired }: CallChoice): Promise<AnswerFormats> {
  if (!isRequired || model.formats.tools?.guidedSyntax) return model.formats;
  const { format } = await toolFormats.load('hermes');
  return { ...model.formats, tools: format };
}

/**
 * The guide of one answer to a chat: reasoning as the model likes, then what the request asks for. Undefined where anything goes.
 * @param prompt the rendered chat, which may have begun the reasoning, or closed it
 * @throws ProtocolError PARAMETER_INVALID for a tool whose arguments no grammar can hold
 */
export function answerGuide(
  formats: AnswerFormats,
  model: ServedModel,
  prompt: string,
  wish: AnswerWish,
): Guide | undefined {
  try {
    return madeGuide(formats, model, prompt, wish);
  } catch (cause) {
    if (!(cause instanceof RuntimeError)) throw cause;
    throw new ProtocolError('PARAMETER_INVALID', `tools: ${messageOf(cause)}`, { parameter: 'tools', cause });
  }
}

function madeGuide(
  formats: AnswerFormats,
  model: ServedModel,
  prompt: string,
  wish: AnswerWish,
): Guide | undefined {
  const { reasoning } = formats;
  const { guide } = wish;
  const calls = callsOf(formats, model, wish);
  if (!calls && (!guide || !reasoning)) return guide;
  const answer = guide && formatOf(guide);
  const inner =
    answer && calls ? { type: 'or', elements: [answer, calls.format] } : (answer ?? calls?.format);
  if (!inner) return undefined;
  const specialTokens = [
    ...(guide?.specialTokens ?? []),
    ...(calls?.specialTokens ?? []),
    ...(reasoning ? [reasoning.start, reasoning.end] : []),
  ];
  const whole = reasoning ? behindReasoning(inner, reasoning, prompt) : inner;
  return { kind: 'structural_tag', source: structuralTagOf(whole), specialTokens };
}

interface GuidedCalls {
  format: TagFormat;
  specialTokens: readonly string[];
}

/** Calls that must be made, that may stand for the guided text, or whose arguments are strict. */
function callsOf(
  { tools: format }: AnswerFormats,
  model: ServedModel,
  wish: AnswerWish,
): GuidedCalls | undefined {
  if (!format?.guidedSyntax || wish.tools.length === 0) return undefined;
  const hasToken = (text: string): boolean => model.tokenizer.tokenId(text) !== undefined;
  const callWish = { tools: wish.tools, isParallel: wish.isParallel, hasToken };
  const syntax = format.guidedSyntax(callWish);
  const { specialTokens = [] } = syntax;
  if (wish.isRequired || wish.guide) return { format: callsFormat(syntax, callWish), specialTokens };
  if (!wish.tools.some(({ isStrict }) => isStrict)) return undefined;
  const free = textWithCallsFormat(syntax, callWish);
  return free && { format: free, specialTokens };
}

function formatOf({ kind, source }: Guide): TagFormat {
  if (kind === 'grammar') return grammarFormat(source);
  return (JSON.parse(source) as { format: TagFormat }).format;
}

/** The grammar begins where the reasoning ends. */
function behindReasoning(answer: TagFormat, reasoning: ReasoningFormat, prompt: string): TagFormat {
  const state = reasoning.stateAfter(prompt);
  if (state === 'closed') return answer;
  const space = grammarFormat('root ::= [ \\n]{0,4}');
  const thought = (begin: string): TagFormat => ({
    type: 'sequence',
    elements: [{ type: 'tag', begin, content: { type: 'any_text' }, end: reasoning.end }, space, answer],
  });
  if (state === 'open') return thought('');
  return { type: 'or', elements: [thought(reasoning.start), answer] };
}
