/** GPT-2's words: contractions, letters, digits, other signs, white space. */
export const gpt2Regex = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const spaces = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';
const signs = ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*';
/** The family of GPT-4's regex, which differs in how digits group. */
const gpt4Regex = (digits: string) =>
  `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}|${signs}|${spaces}`;

const upper = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const lower = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
/** The family of GPT-4o's regex: words also break where case rises. */
const casedRegex = (contraction: string, digits: string) =>
  `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+${contraction}|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*${contraction}` +
  `|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${spaces}`;

const deepseekV3Words =
  '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+' +
  `| ?[\\p{P}\\p{S}]+[\\r\\n]*|${spaces}`;

const deepseekLlmLetters =
  '\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼ' +
  'ℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+';

const bloomWords = ' ?[^(\\s|.,!?…。，、।۔،)]+';

/** A way to cut text into words, as llama.cpp's `tokenizer.ggml.pre` names it. */
export interface PreTokenizer {
  /** Every name it goes by; the first is written. */
  names: readonly string[];
  /** Applied one after the other, each to the pieces of the one before. */
  regexes: readonly string[];
  /** A word that is a token needs no merging. */
  ignoreMerges?: boolean;
  /** Whether a text gets a BOS if the file does not say. */
  addsBos?: boolean;
}

/** The pre-tokenizers of byte-level BPE in GGUF files. The regexes are facts of the original tokenizers. */
export const preTokenizers: readonly PreTokenizer[] = [
  {
    names: ['default'],
    regexes: ['[\\p{P}\\$\\+<=>\\^~\\|]+', gpt2Regex, '\\p{N}+', '[0-9][0-9][0-9]'],
  },
  {
    names: ['llama-bpe', 'llama3', 'llama-v3', 'falcon3', 'falcon-h1', 'pixtral', 'midm-2.0', 'lfm2'],
    regexes: [gpt4Regex('\\p{N}{1,3}')],
    ignoreMerges: true,
    addsBos: true,
  },
  { names: ['smaug-bpe', 'dbrx', 'chatglm-bpe', 'glm4'], regexes: [gpt4Regex('\\p{N}{1,3}')] },
  {
    names: ['qwen2', 'deepseek-r1-qwen', 'stablelm2', 'megrez', 'hunyuan', 'solar-open', 'grok-2', 'kormo'],
    regexes: [gpt4Regex('\\p{N}')],
  },
  {
    names: ['qwen35'],
    regexes: [
      `${contractions}|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|${spaces}`,
    ],
  },
  {
    names: [
      'gpt-2',
      'phi-2',
      'mpt',
      'olmo',
      'jais',
      'trillion',
      'granite-docling',
      'exaone4',
      'gigachat',
      'a.x-4.0',
      'mellum',
    ],
    regexes: [gpt2Regex],
  },
  {
    names: ['smollm', 'starcoder', 'refact', 'command-r', 'codeshell', 'exaone', 'minerva-7b', 'mellum2'],
    regexes: ['\\p{N}', gpt2Regex],
  },
  {
    names: ['falcon'],
    regexes: ['[\\p{P}\\$\\+<=>\\^~\\|`]+', gpt2Regex, '[0-9][0-9][0-9]'],
  },
  {
    names: ['deepseek-llm'],
    regexes: [
      '[\\r\\n]',
      deepseekLlmLetters,
      '\\s?[!-/:-~！-／：-～‘-‟　-。]+',
      '\\s+$',
      '[一-龥ࠀ-一가-퟿]+',
      '\\p{N}+',
    ],
  },
  {
    names: ['deepseek-coder'],
    regexes: ['[\\r\\n]', '\\s?\\p{L}+', '\\s?\\p{P}+', '[一-龥ࠀ-一가-퟿]+', '\\p{N}'],
  },
  {
    names: ['deepseek-v3', 'hunyuan-dense', 'joyai-llm'],
    regexes: ['\\p{N}{1,3}', '[一-龥\u3040-ゟ゠-ヿ]+', deepseekV3Words],
  },
  { names: ['tekken'], regexes: [casedRegex('', '\\p{N}')], ignoreMerges: true, addsBos: true },
  {
    names: ['gpt-4o', 'llama4', 'kanana2', 'minimax-m2'],
    regexes: [casedRegex(`${contractions}?`, '\\p{N}{1,3}')],
  },
  { names: ['poro-chat', 'bloom', 'gpt3-finnish'], regexes: [bloomWords] },
  { names: ['viking'], regexes: [bloomWords, '\\p{N}'] },
  {
    names: ['bailingmoe', 'bailingmoe2', 'llada-moe'],
    regexes: [
      `'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+`,
    ],
  },
  {
    names: ['seed-coder'],
    regexes: [
      `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|${spaces}`,
    ],
  },
];

/** The pre-tokenizer of a name, or undefined. */
export function preTokenizerNamed(name: string): PreTokenizer | undefined {
  return preTokenizers.find((row) => row.names.includes(name));
}

/** Every known name. */
export function preTokenizerNames(): string[] {
  return preTokenizers.flatMap((row) => row.names);
}
