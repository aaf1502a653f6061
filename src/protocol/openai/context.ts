import type { AnswerContext } from '../answering.ts';
import type { ServedModels } from '../served-model.ts';

/** What the handlers of one OpenAI front end share. */
export interface OpenAiContext extends AnswerContext {
  models: ServedModels;
  /** A new id's part after `chatcmpl-`; unique over servers. */
  nextId(): string;
  /** Whether a request may bring a chat template of its own. */
  trustRequestChatTemplate: boolean;
}
