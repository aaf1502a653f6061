// Compares our tokenizer with native `tokenizers` (pip install tokenizers) over thousands of awkward texts:
//   node --import tsx tools/tokenizer-oracle.ts [FOLDER_OR_GGUF …]
// Without arguments: every vocabulary in ../shared. Ends with status 1 if any text encodes differently.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SeededRandom } from '../src/base/random.ts';
import { openGguf } from '../src/checkpoint/gguf-reader.ts';
import { tokenizerFilesFromGguf } from '../src/tokenizer/gguf-to-files.ts';
import { ggufVocabularyOf } from '../src/tokenizer/gguf-vocabulary.ts';
import { JsonTokenizer, type TokenizerFiles } from '../src/tokenizer/json-tokenizer.ts';
import { readTokenizerFiles } from '../src/tokenizer/open.ts';
import { sharedPath } from '../test/support/shared.ts';
import { sharedGgufVocabulary, sharedTokenizerFiles } from '../test/support/tokenizers.ts';

const textCount = 3000;
const seed = Number(process.env.SEED ?? 1);
const parts = [
  ...[
    'a',
    'b',
    'the',
    'Hello',
    'WORLD',
    'aaaa',
    'xx',
    "'s",
    "'LL",
    '_',
    '-',
    '!',
    '...',
    '=',
    '==',
    '<',
    '>',
  ],
  ...[
    ' ',
    '  ',
    '   ',
    ' '.repeat(16),
    '\n',
    '\r\n',
    '\t',
    '\u00a0',
    '\u3000',
    '\u2028',
    '\u0085',
    '\u200b',
    '\ufeff',
    '\0',
  ],
  ...[
    '1',
    '12',
    '3456',
    '²',
    '½',
    'ⅷ',
    '٢',
    'é',
    'e\u0301',
    'õ',
    'İ',
    'ß',
    'ﬁ',
    'Ж',
    'ا',
    'क्',
    '日',
    '本',
    '가',
    '🦜',
    '👩‍👩‍👧',
  ],
  ...['<s>', '</s>', '<|im_end|>', '<|eot_id|>', '<think>', '▁'],
];

function awkwardTexts(): string[] {
  const random = new SeededRandom(seed);
  const word = () => parts[random.integer(parts.length)] ?? '';
  return Array.from({ length: textCount }, () => Array.from({ length: random.integer(16) }, word).join(''));
}

async function vocabularies(paths: string[]): Promise<[string, TokenizerFiles][]> {
  const open = async (path: string): Promise<TokenizerFiles> =>
    path.endsWith('.gguf')
      ? tokenizerFilesFromGguf(ggufVocabularyOf(openGguf(path)))
      : readTokenizerFiles(path);
  if (paths.length > 0)
    return Promise.all(paths.map(async (path) => [path, await open(path)] as [string, TokenizerFiles]));
  const folders = ['llama3', 'qwen3', 'gpt2', 'deepseek_v3'];
  const ggufs = ['llama-spm', 'phi-3', 'gpt-2', 'deepseek-coder', 'bert-bge'];
  return [
    ['stories260K', await readTokenizerFiles(sharedPath('models/stories260K'))],
    ...folders.map((name): [string, TokenizerFiles] => [name, sharedTokenizerFiles(name)]),
    ...ggufs.map((name): [string, TokenizerFiles] => [
      `${name}.gguf`,
      tokenizerFilesFromGguf(sharedGgufVocabulary(name)),
    ]),
  ];
}

const texts = awkwardTexts();
const folder = mkdtempSync(join(tmpdir(), 'tokenizer-oracle-'));
try {
  for (const [name, files] of await vocabularies(process.argv.slice(2))) {
    // What transformers adds on top of tokenizer.json is not native tokenizers' business.
    const tokenizer = new JsonTokenizer({ 'tokenizer.json': files['tokenizer.json'] });
    const cases = texts.map((text) => ({ text, ids: [...tokenizer.encode(text)] }));
    const stem = join(folder, name.replace(/[^\w.-]/g, '_'));
    writeFileSync(`${stem}.tokenizer.json`, files['tokenizer.json']);
    writeFileSync(`${stem}.cases.json`, JSON.stringify(cases));
  }
  const script = fileURLToPath(new URL('./tokenizer-oracle.py', import.meta.url));
  const { status } = spawnSync('python3', [script, folder], { stdio: 'inherit' });
  process.exitCode = status ?? 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
