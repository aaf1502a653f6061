import type { ApiContext } from '../api.ts';

/** What the handlers of one OpenAI front end share. */
export interface OpenAiContext extends ApiContext {
  /** Whether a request may bring a chat template of its own. */
  trustRequestChatTemplate: boolean;
}
