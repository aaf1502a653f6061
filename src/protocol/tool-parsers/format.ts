import type { PartParser } from '../answer-parts.ts';
import type { CallSyntax, CallWish } from './guided-calls.ts';

/** The tools that were offered to a model: by name, the JSON schema of each one's parameters as the client sent it. */
export type OfferedTools = ReadonlyMap<string, unknown>;

/** A way in which models write calls to tools. */
export interface ToolFormat {
  createParser(tools: OfferedTools): PartParser;
  /** Whether its markers are special tokens, which the text must then keep. */
  usesSpecialTokens: boolean;
  /** What a call looks like, for a prompt that asks a model for it whose template does not know tools. */
  callSyntax: string;
  /** How an answer is guided to be a call. Absent: a forced one is written as Hermes has it, whatever the template asks for. */
  guidedSyntax?(wish: CallWish): CallSyntax;
  /** Length of calls' ids where a model's template insists on one (Mistral's: 9 letters and digits). */
  callIdLength?: number;
}
