import { byteCharacters } from '../../src/tokenizer/byte-alphabet.ts';
import { JsonTokenizer } from '../../src/tokenizer/json-tokenizer.ts';

/** Ids after the 256 bytes, which are their own ids. */
export const endOfTextId = 256;
export const turnStartId = 257;
export const turnEndId = 258;
export const byteVocabularySize = 259;

const chatTemplate =
  '{% if tools %}<|im_start|>tools\n{{ tools | tojson }}<|im_end|>\n{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}\n' +
  '{{ message.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}';

const special = (id: number, content: string) => ({
  id,
  content,
  special: true,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
});

/**
 * A tokenizer whose tokens are single bytes, with ChatML turns: what a scripted null device says can be read off its ids.
 * @param moreTokens further special tokens; their ids go up from {@link byteVocabularySize}
 */
export function byteTokenizer({ withTemplate = true, moreTokens = [] as string[] } = {}): JsonTokenizer {
  const vocab = Object.fromEntries(byteCharacters.map((character, byte) => [character, byte]));
  return new JsonTokenizer({
    'tokenizer.json': JSON.stringify({
      version: '1.0',
      added_tokens: [
        special(endOfTextId, '<|endoftext|>'),
        special(turnStartId, '<|im_start|>'),
        special(turnEndId, '<|im_end|>'),
        ...moreTokens.map((token, index) => special(byteVocabularySize + index, token)),
      ],
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
      decoder: { type: 'ByteLevel' },
      model: { type: 'BPE', vocab, merges: [] },
    }),
    'tokenizer_config.json': JSON.stringify({
      eos_token: '<|endoftext|>',
      ...(withTemplate ? { chat_template: chatTemplate } : {}),
    }),
  });
}

/** A text's ids. */
export function bytesOf(text: string): number[] {
  return [...Buffer.from(text)];
}
