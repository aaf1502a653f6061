import { ProtocolError } from '../errors.ts';
import { listedTokensMax, truncatedTokensMax } from '../limits.ts';
import type { ServedModel } from '../served-model.ts';
import type { ServedModels } from '../served-models.ts';
import { parseRequest } from '../validation.ts';
import { encodeChat } from './chat.ts';
import type { OpenAiContext } from './context.ts';
import { detokenizeRequest, tokenFields, tokenizeRequest } from './requests.ts';
import { checkTokenId } from './token-ids.ts';

/** POST /tokenize, as vLLM has it: of a text (`prompt`) or of a chat (`messages`). A text may be longer than the context: one asks to know. */
export async function handleTokenize(
  context: OpenAiContext,
  body: unknown,
  signal: AbortSignal,
): Promise<object> {
  const { prompt, messages, ...fields } = parseRequest(tokenizeRequest, body, tokenFields);
  const model = context.models.resolve(fields.model ?? undefined);
  if ((typeof prompt === 'string') === Array.isArray(messages)) {
    throw new ProtocolError('PARAMETER_INVALID', 'send either prompt or messages', { parameter: 'prompt' });
  }
  const options = { tokensMax: truncatedTokensMax, signal };
  const tokens = messages
    ? (await encodeChat(context, { ...fields, messages }, model, options)).tokens
    : await model.encode(prompt ?? '', { ...options, addSpecialTokens: fields.add_special_tokens ?? true });
  if (tokens.length > listedTokensMax) {
    const message = `the text has ${tokens.length} tokens, over the ${listedTokensMax} that one answer lists; split it`;
    throw new ProtocolError('ANSWER_TOO_LARGE', message, { parameter: 'prompt' });
  }
  const ids = [...tokens];
  return {
    count: ids.length,
    max_model_len: model.client.description.contextLength,
    tokens: ids,
    token_strs: fields.return_token_strs ? ids.map((id) => model.tokenizer.token(id) ?? '') : null,
  };
}

/** GET /tokenizer_info, as vLLM has it: what lm-eval's remote tokenizer asks. */
export function tokenizerInfo({ tokenizer, chatTemplate, client }: ServedModel): object {
  const nameOf = (id: number | undefined) => (id === undefined ? null : (tokenizer.token(id) ?? null));
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    model_max_length: client.description.contextLength,
    vocab_size: tokenizer.vocabularySize,
    bos_token: nameOf(tokenizer.bosTokenId),
    eos_token: nameOf(tokenizer.eosTokenId),
    pad_token: null,
    chat_template: chatTemplate ?? null,
  };
}

/** POST /detokenize, as vLLM has it: special tokens are kept. No more ids than the context holds. */
export function handleDetokenize(models: ServedModels, body: unknown): object {
  const { model: name, tokens } = parseRequest(detokenizeRequest, body, tokenFields);
  const model = models.resolve(name ?? undefined);
  const { contextLength } = model.client.description;
  if (tokens.length > contextLength) {
    const message = `${tokens.length} tokens are over the ${contextLength} of the context of '${model.name}'; split them`;
    throw new ProtocolError('PARAMETER_INVALID', message, { parameter: 'tokens' });
  }
  for (const id of tokens) checkTokenId(id, model, 'tokens');
  return { prompt: model.tokenizer.decode(tokens, { skipSpecialTokens: false }) };
}
