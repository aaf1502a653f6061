import { ProtocolError } from '../errors.ts';

/** Values of a field that ask for nothing, so that clients which always send it are not refused. */
type Harmless = readonly unknown[];

const nothing: Harmless = [];

/**
 * Fields of OpenAI's and vLLM's APIs that would change the answer and that Nereid does not honour. Sent with any value but `null` or
 * a harmless one they are refused: an answer that silently ignores them would be wrong.
 */
const refused: Readonly<Record<string, Harmless>> = {
  audio: nothing,
  detokenize: [true],
  documents: [[]],
  function_call: ['none'],
  functions: [[]],
  guided_whitespace_pattern: nothing,
  kv_transfer_params: [{}],
  logits_processors: [[]],
  mm_processor_kwargs: [{}],
  modalities: [['text']],
  prompt_embeds: nothing,
  return_tokens_as_token_ids: [false],
  spaces_between_special_tokens: [true],
  vllm_xargs: [{}],
  web_search_options: nothing,
};

function own(fields: Readonly<Record<string, Harmless>>, field: string): Harmless | undefined {
  return Object.hasOwn(fields, field) ? fields[field] : undefined;
}

function same(left: unknown, right: unknown): boolean {
  return left === right || (typeof left === 'object' && JSON.stringify(left) === JSON.stringify(right));
}

/** Fields that only the other endpoint has. */
const refusedOf: Readonly<Record<'chat' | 'completion', Readonly<Record<string, Harmless>>>> = {
  chat: { best_of: [1], prompt: nothing, suffix: [''] },
  completion: {
    prediction: nothing,
    chat_template: nothing,
    continue_final_message: [false],
    chat_template_kwargs: nothing,
    max_completion_tokens: nothing,
    messages: nothing,
    tool_choice: ['none', 'auto'],
    tools: [[]],
    top_logprobs: nothing,
  },
};

/** @throws ProtocolError PARAMETER_UNSUPPORTED naming the first such field */
export function refuseUnsupported(
  body: Readonly<Record<string, unknown>>,
  endpoint: 'chat' | 'completion',
): void {
  for (const field of Object.keys(body)) {
    const harmless = own(refusedOf[endpoint], field) ?? own(refused, field);
    const value = body[field];
    if (harmless === undefined || value === null || value === undefined) continue;
    if (harmless.some((known) => same(value, known))) continue;
    throw unsupported(field, `'${field}' is not supported by this ${endpoint} endpoint; leave it out`);
  }
}

/** A value that the API knows and this server does not honour. */
export function unsupported(parameter: string, message: string): ProtocolError {
  return new ProtocolError('PARAMETER_UNSUPPORTED', message, { parameter });
}
