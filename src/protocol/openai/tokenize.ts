import { ProtocolError } from '../errors.ts';
import type { ServedModels } from '../served-model.ts';
import { encodeChat } from './chat.ts';
import { validationError } from './errors.ts';
import { checkTokenId } from './parameters.ts';
import { detokenizeRequest, tokenizeRequest } from './requests.ts';

/** POST /tokenize, as vLLM has it: of a text (`prompt`) or of a chat (`messages`). */
export async function handleTokenize(models: ServedModels, body: unknown): Promise<object> {
  const parsed = tokenizeRequest.safeParse(body);
  if (!parsed.success) throw validationError(parsed.error);
  const { prompt, messages, ...fields } = parsed.data;
  const model = models.resolve(fields.model ?? undefined);
  if ((typeof prompt === 'string') === Array.isArray(messages)) {
    throw new ProtocolError('PARAMETER_INVALID', 'send either prompt or messages', { parameter: 'prompt' });
  }
  const tokens = messages
    ? await encodeChat({ ...fields, messages }, model)
    : await model.encode(prompt ?? '', { addSpecialTokens: fields.add_special_tokens ?? true });
  const ids = [...tokens];
  return {
    count: ids.length,
    max_model_len: model.client.description.contextLength,
    tokens: ids,
    token_strs: fields.return_token_strs ? ids.map((id) => model.tokenizer.token(id) ?? '') : null,
  };
}

/** POST /detokenize, as vLLM has it: special tokens are kept. */
export function handleDetokenize(models: ServedModels, body: unknown): object {
  const parsed = detokenizeRequest.safeParse(body);
  if (!parsed.success) throw validationError(parsed.error);
  const model = models.resolve(parsed.data.model ?? undefined);
  for (const id of parsed.data.tokens) checkTokenId(id, model, 'tokens');
  return { prompt: model.tokenizer.decode(parsed.data.tokens, { skipSpecialTokens: false }) };
}
