import type { PartParser } from '../answer-parts.ts';
import type { CallSyntax, CallWish } from './guided-calls.ts';

/** A way in which models write calls to tools. */
export interface ToolFormat {
  /** @param toolNames those offered to the model */
  createParser(toolNames: ReadonlySet<string>): PartParser;
  /** Whether its markers are special tokens, which the text must then keep. */
  usesSpecialTokens: boolean;
  /** What a call looks like, for a prompt that asks a model for it whose template does not know tools. */
  callSyntax: string;
  /** How an answer is guided to be a call. */
  guidedSyntax(wish: CallWish): CallSyntax;
  /** Length of calls' ids where a model's template insists on one (Mistral's: 9 letters and digits). */
  callIdLength?: number;
}
