import type { GgufValue } from '../checkpoint/gguf-values.ts';
import type { GgufVocabulary } from '../tokenizer/gguf-vocabulary.ts';

type Entry = readonly [string, GgufValue];

/** Ids by the key that GGUF gives them; the format spells `seperator` so. */
const idKeys = {
  bos: 'bosTokenId',
  eos: 'eosTokenId',
  eot: 'eotTokenId',
  eom: 'eomTokenId',
  unknown: 'unknownTokenId',
  padding: 'paddingTokenId',
  seperator: 'separatorTokenId',
  cls: 'clsTokenId',
} as const satisfies Record<string, keyof GgufVocabulary>;

/** A vocabulary as the `tokenizer.*` entries that llama.cpp reads. */
export function tokenizerMetadata(vocabulary: GgufVocabulary): Entry[] {
  const entries: Entry[] = [['tokenizer.ggml.model', { type: 'string', value: vocabulary.model }]];
  const add = (key: string, value: GgufValue) => entries.push([`tokenizer.ggml.${key}`, value]);
  if (vocabulary.pre !== undefined) add('pre', { type: 'string', value: vocabulary.pre });
  add('tokens', { type: 'array', of: 'string', value: vocabulary.tokens });
  if (vocabulary.scores) add('scores', { type: 'array', of: 'f32', value: vocabulary.scores });
  if (vocabulary.tokenTypes) add('token_type', { type: 'array', of: 'i32', value: vocabulary.tokenTypes });
  if (vocabulary.merges) add('merges', { type: 'array', of: 'string', value: vocabulary.merges });
  for (const [key, field] of Object.entries(idKeys)) {
    const id = vocabulary[field];
    if (id !== undefined) add(`${key}_token_id`, { type: 'u32', value: id });
  }
  const flags = {
    add_bos_token: vocabulary.addBos,
    add_eos_token: vocabulary.addEos,
    add_space_prefix: vocabulary.addSpacePrefix,
  };
  for (const [key, value] of Object.entries(flags)) {
    if (value !== undefined) add(key, { type: 'bool', value });
  }
  if (vocabulary.chatTemplate !== undefined) {
    entries.push(['tokenizer.chat_template', { type: 'string', value: vocabulary.chatTemplate }]);
  }
  return entries;
}
