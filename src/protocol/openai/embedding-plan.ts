import { greedySampling, type Pooling } from '../../runtime/requests/request.ts';
import type { AnswerPlan } from '../answering.ts';
import { ProtocolError } from '../errors.ts';
import { textGeneration } from '../generation-input.ts';
import { embeddingInputsMax } from '../limits.ts';
import type { ServedModel } from '../served-model.ts';
import { checkPromptFits } from '../token-limit.ts';
import { EmbeddingAnswer, type EmbeddingWording } from './embedding-answer.ts';
import { encodableTokens, truncated } from './parameters.ts';
import { checkTokenId } from './token-ids.ts';

/** What is embedded: texts or token ids. */
export type EmbeddingInput = string | readonly number[];

/** How inputs are read and pooled, the same in all requests that embed. */
export interface EmbeddingFields {
  truncate_prompt_tokens?: number | null;
  add_special_tokens?: boolean | null;
  cache_salt?: string | null;
  priority?: number | null;
  pooling?: Pooling | null;
}

/**
 * The token ids of inputs.
 * @param parameter the field that they came in
 * @throws ProtocolError PARAMETER_INVALID, CONTEXT_LENGTH_EXCEEDED
 */
export async function encodeInputs(
  inputs: readonly EmbeddingInput[],
  parameter: string,
  fields: EmbeddingFields,
  model: ServedModel,
  signal: AbortSignal,
): Promise<Int32Array[]> {
  if (inputs.length > embeddingInputsMax) {
    const message = `${inputs.length} inputs are over the ${embeddingInputsMax} of one request; split it`;
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter });
  }
  const { truncate_prompt_tokens: keep } = fields;
  const addSpecialTokens = fields.add_special_tokens ?? true;
  const options = { addSpecialTokens, tokensMax: encodableTokens(keep), signal };
  const encoded: Int32Array[] = [];
  for (const input of inputs) {
    const isText = typeof input === 'string';
    if (!isText) for (const id of input) checkTokenId(id, model, parameter);
    const whole = isText ? await model.encode(input, options) : Int32Array.from(input);
    if (whole.length === 0) {
      const message = 'an input is empty and this model has no token to begin with; send some text';
      throw new ProtocolError('PARAMETER_INVALID', message, { parameter });
    }
    const tokens = truncated(whole, keep, 0, model);
    checkPromptFits(tokens.length, parameter, model);
    encoded.push(tokens);
  }
  return encoded;
}

/** A plan whose answer is made of one embedding for each prompt. */
export function embeddingPlan<T>(
  id: string,
  model: ServedModel,
  prompts: readonly Int32Array[],
  fields: EmbeddingFields,
  make: (pooled: Float32Array, input: number) => T,
  word: EmbeddingWording<T>,
): AnswerPlan {
  const inputs = prompts.map((promptTokens) =>
    textGeneration({
      promptTokens,
      sampling: greedySampling,
      maxTokens: 0,
      cacheSalt: fields.cache_salt ?? undefined,
      // vLLM's field: lower is earlier. The engine's: higher is earlier.
      priority: -(fields.priority ?? 0),
      returns: { pooling: fields.pooling ?? model.pooling },
    }),
  );
  return {
    ...{ model, id, inputs, stream: false },
    gathered: () => new EmbeddingAnswer(make, word),
    streamed: () => {
      throw new ProtocolError('PARAMETER_UNSUPPORTED', 'embeddings are not streamed', {
        parameter: 'stream',
      });
    },
  };
}
