import type { IncrementalDecoder } from '../../tokenizer/types.ts';
import type { Backend, BackendContext } from '../backend.ts';
import { tokensMarkOf } from '../engine/marks.ts';
import { RepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import { bytesTensor, type Tensor, valuesOf } from '../tensor.ts';
import { looseTruth, type ModelTokenizer, openModelTokenizer } from './tokenizers.ts';

/**
 * TensorRT-LLM's `postprocessing` model: ids to texts, one a batch item and beam. Unlike the original it keeps what belongs to a
 * sequence between the pieces of a stream, so no space and no split character is lost.
 * @throws RepositoryError, TokenizerError
 */
export async function load(context: BackendContext): Promise<Backend> {
  const texts = await openModelTokenizer(context);
  const skipSpecialTokens = looseTruth(context, 'skip_special_tokens', true);
  const decoders = new WeakMap<object, IncrementalDecoder>();
  const options = { texts, skipSpecialTokens, decoders };
  return {
    kind: 'direct',
    start: (execution) => {
      execution.begin();
      execution.inputsReady();
      const outputs = [decodeAll(execution, options)];
      execution.computed();
      execution.respond({ outputs }, true);
    },
    close: () => texts.close(),
  };
}

interface DecodeOptions {
  texts: ModelTokenizer;
  skipSpecialTokens: boolean;
  /** By sequence of a stream. */
  decoders: WeakMap<object, IncrementalDecoder>;
}

function decodeAll(execution: Execution, options: DecodeOptions): Tensor {
  const tokens = execution.input('TOKENS_BATCH');
  const lengths = execution.input('SEQUENCE_LENGTH');
  if (tokens?.shape.length !== 3) {
    throw new RepositoryError('INVALID_ARGUMENT', 'TOKENS_BATCH must be [rows, beams, length]');
  }
  const [rows = 0, beams = 0, length = 0] = tokens.shape;
  const ids = valuesOf(tokens, 'INT32');
  // The static runtime's model sends none: padding ends its rows.
  const counts = lengths && valuesOf(lengths, 'INT32');
  const texts: string[] = [];
  for (let index = 0; index < rows * beams; index++) {
    const count = Math.min(length, Math.max(0, counts?.[index] ?? length));
    texts.push(decode(ids.subarray(index * length, index * length + count), tokens, options));
  }
  return bytesTensor('OUTPUT', [texts.length], texts);
}

function decode(
  ids: Int32Array,
  tensor: Tensor,
  { texts, skipSpecialTokens, decoders }: DecodeOptions,
): string {
  const { tokenizer, addsBos } = texts;
  // Padding, and what load tools make up.
  const known = ids.filter((id) => id >= 0 && id < tokenizer.vocabularySize);
  const mark = tokensMarkOf(tensor);
  if (!mark) {
    // Where whole texts begin with a BOS, ids that do not are the continuation of a prompt, and keep their first space.
    const continuation = addsBos && known[0] !== tokenizer.bosTokenId;
    return tokenizer.decode(known, { skipSpecialTokens, continuation });
  }
  let decoder = decoders.get(mark.sequence);
  if (!decoder) {
    decoder = tokenizer.incrementalDecoder({ skipSpecialTokens, continuation: mark.isContinuation });
    decoders.set(mark.sequence, decoder);
  }
  let text = '';
  for (const id of known) text += decoder.push(id);
  return mark.isLast ? text + decoder.flush() : text;
}
