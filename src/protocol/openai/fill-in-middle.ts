import type { ServedModel, TextOptions } from '../served-model.ts';
import { unsupported } from './refused-fields.ts';

/** How a family of models is told of text before and behind a gap. */
interface FillInMiddle {
  before: string;
  behind: string;
  /** What the model's own text follows; absent where that is the text before the gap. */
  gap?: string;
  /** Tokens, beside the model's own end of text, that end what fills the gap. */
  ends: readonly string[];
}

/** From the models' own documentation. Without a {@link FillInMiddle.gap} token the text behind comes first. */
const families: readonly FillInMiddle[] = [
  // Qwen 2.5 and 3 Coder, CodeGemma.
  {
    before: '<|fim_prefix|>',
    behind: '<|fim_suffix|>',
    gap: '<|fim_middle|>',
    ends: ['<|fim_pad|>', '<|file_sep|>', '<|repo_name|>', '<|file_separator|>'],
  },
  // StarCoder, Granite; SantaCoder.
  { before: '<fim_prefix>', behind: '<fim_suffix>', gap: '<fim_middle>', ends: ['<fim_pad>', '<file_sep>'] },
  { before: '<fim-prefix>', behind: '<fim-suffix>', gap: '<fim-middle>', ends: ['<fim-pad>'] },
  // Code Llama.
  { before: '▁<PRE>', behind: '▁<SUF>', gap: '▁<MID>', ends: ['▁<EOT>'] },
  // DeepSeek Coder.
  { before: '<｜fim▁begin｜>', behind: '<｜fim▁hole｜>', gap: '<｜fim▁end｜>', ends: [] },
  // Codestral.
  { before: '[PREFIX]', behind: '[SUFFIX]', ends: [] },
];

/** A family's tokens in one vocabulary. */
export interface GapTokens {
  before: number;
  behind: number;
  gap: number | undefined;
  ends: readonly number[];
}

/** @throws ProtocolError PARAMETER_UNSUPPORTED for a model that was not trained to fill gaps */
export function gapTokensOf(model: ServedModel): GapTokens {
  const { tokenizer } = model;
  for (const { before, behind, gap, ends } of families) {
    const [first, second] = [tokenizer.tokenId(before), tokenizer.tokenId(behind)];
    const third = gap === undefined ? undefined : tokenizer.tokenId(gap);
    if (first === undefined || second === undefined || (gap !== undefined && third === undefined)) continue;
    const known = ends.map((end) => tokenizer.tokenId(end)).filter((id) => id !== undefined);
    return { before: first, behind: second, gap: third, ends: known };
  }
  const message = `'suffix' needs a model with fill-in-the-middle tokens, and '${model.name}' has none; leave it out`;
  throw unsupported('suffix', message);
}

/** A prompt that asks for what stands between `prefix` and `suffix`. Special tokens in them are text. */
export async function gapPrompt(
  prefix: string | Int32Array,
  suffix: string,
  tokens: GapTokens,
  model: ServedModel,
  options: TextOptions,
): Promise<Int32Array> {
  const plain = { ...options, addSpecialTokens: false, parseSpecialTokens: false };
  const before = typeof prefix === 'string' ? await model.encode(prefix, plain) : prefix;
  const behind = await model.encode(suffix, plain);
  const [bos] = (options.addSpecialTokens ?? true) ? model.tokenizer.encode('') : [];
  const start = bos !== undefined && bos === model.tokenizer.bosTokenId ? [bos] : [];
  if (tokens.gap === undefined) {
    return Int32Array.from([...start, tokens.behind, ...behind, tokens.before, ...before]);
  }
  return Int32Array.from([...start, tokens.before, ...before, tokens.behind, ...behind, tokens.gap]);
}
