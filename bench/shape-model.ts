// Writes a GGUF file of the Llama-3.1-8B shape whose weights are zeros, with a byte-level vocabulary of that size: a model to serve with
// --device cuda --device-option weights=random:1. `node --import tsx bench/shape-model.ts FILE`.
import { writeGguf } from '../src/checkpoint/gguf-writer.ts';
import { architectures } from '../src/models/registry.ts';
import { modelWeights } from '../src/models/weights.ts';
import { llama8b } from './cuda-model.ts';

const chunk = new Uint8Array(32 * 1024 * 1024);
const [path, numbers = '{}'] = process.argv.slice(2);
if (path === undefined) throw new Error('which file?');
const overrides = JSON.parse(numbers) as Partial<typeof llama8b>;
const p = { ...llama8b, contextLength: 4096, ...overrides };
const architecture = await architectures.load(p.architecture);

/** GPT-2's printable stand-ins for the 256 bytes. */
function byteTokens(): string[] {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}

const bytes = byteTokens();
const tokens = [...bytes, 'ab', ...Array.from({ length: p.vocabularySize - 257 }, (_, k) => `t${k}`)];
const tensors = modelWeights(architecture, p)
  .filter(({ presence }) => presence !== 'optional')
  .map(({ gguf, shape }) => {
    const dtype = shape.length > 1 ? ('bf16' as const) : ('f32' as const);
    const size = shape.reduce((product, n) => product * n, dtype === 'bf16' ? 2 : 4);
    function* data(): Generator<Uint8Array> {
      for (let left = size; left > 0; left -= chunk.length)
        yield chunk.subarray(0, Math.min(left, chunk.length));
    }
    return { name: gguf, shape, dtype, data };
  });
const metadata = [
  ...architecture.ggufMetadata(p),
  ['tokenizer.ggml.model', { type: 'string', value: 'gpt2' }],
  ['tokenizer.ggml.pre', { type: 'string', value: 'default' }],
  ['tokenizer.ggml.tokens', { type: 'array', of: 'string', value: tokens }],
  ['tokenizer.ggml.token_type', { type: 'array', of: 'i32', value: tokens.map(() => 1) }],
  ['tokenizer.ggml.merges', { type: 'array', of: 'string', value: ['a b'] }],
] as Parameters<typeof writeGguf>[1]['metadata'];
console.log(await writeGguf(path, { metadata, tensors }));
