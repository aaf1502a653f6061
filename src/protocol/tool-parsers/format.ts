import type { PartParser } from '../answer-parts.ts';

/** A way in which models write calls to tools. */
export interface ToolFormat {
  /** @param toolNames those offered to the model */
  createParser(toolNames: ReadonlySet<string>): PartParser;
  /** Whether its markers are special tokens, which the text must then keep. */
  usesSpecialTokens: boolean;
  /** What a call looks like, for a prompt that asks a model for it whose template does not know tools. */
  callSyntax: string;
  /** Length of calls' ids where a model's template insists on one (Mistral's: 9 letters and digits). */
  callIdLength?: number;
}
