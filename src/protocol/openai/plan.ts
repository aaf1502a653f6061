import type { GenerationInput } from '../../generation/generation.ts';
import type { AnswerPlan } from '../answering.ts';
import { type AnswerSettings, chatCompletion, textCompletion, WholeAnswer } from './responses.ts';
import { StreamedAnswer } from './stream.ts';

/** A plan whose answers this protocol words. */
export function answerPlan(
  kind: 'chat' | 'completion',
  stream: boolean,
  inputs: readonly GenerationInput[],
  settings: AnswerSettings,
): AnswerPlan {
  return {
    model: settings.model,
    id: settings.id,
    inputs,
    stream,
    gathered: () => new WholeAnswer(settings, kind === 'chat' ? chatCompletion : textCompletion),
    streamed: (events, response, onOver) => new StreamedAnswer(kind, settings, events, response, onOver),
  };
}
