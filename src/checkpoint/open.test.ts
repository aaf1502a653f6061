import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { rawGguf, rawSafetensors, temporaryFolder, text, u32 } from '../../test/support/checkpoint-files.ts';
import { sharedPath, skipWithout } from '../../test/support/shared.ts';
import type { CheckpointErrorCode } from './errors.ts';
import { openCheckpoint } from './open.ts';

const model = rawSafetensors({ w: { dtype: 'F32', shape: [1], data_offsets: [0, 4] } }, Buffer.alloc(4));
const gguf = rawGguf({ entries: [Buffer.concat([text('general.architecture'), u32(8), text('llama')])] });

function refuses(path: string, code: CheckpointErrorCode, message: RegExp): void {
  assert.throws(() => openCheckpoint(path), { code, message });
}

test('a Hugging Face folder opens with its parts', { skip: skipWithout('models/stories260K') }, () => {
  const checkpoint = openCheckpoint(sharedPath('models/stories260K'));
  assert.ok(checkpoint.kind === 'hugging-face');
  assert.deepEqual(checkpoint.config.architectures, ['LlamaForCausalLM']);
  assert.deepEqual(checkpoint.generationConfig.eos_token_id, [1, 2]);
  assert.equal(checkpoint.tensors.size, 47);
  assert.match(checkpoint.requirePath('tokenizer'), /tokenizer\.json$/);
  assert.match(checkpoint.paths.specialTokensMap ?? '', /special_tokens_map\.json$/);
  assert.equal(checkpoint.paths.chatTemplate, undefined);
  assert.throws(() => checkpoint.tensor('lm_head.weight'), {
    code: 'TENSOR_NOT_FOUND',
    message: /lm_head\.weight/,
  });
});

test('a folder without tokenizer or generation config opens; who needs them is told what to download', {
  skip: skipWithout('models/gpt-nano-sort'),
}, () => {
  const checkpoint = openCheckpoint(sharedPath('models/gpt-nano-sort'));
  assert.ok(checkpoint.kind === 'hugging-face');
  assert.equal(checkpoint.tensors.size, 41);
  assert.deepEqual(checkpoint.generationConfig, {});
  const error = { code: 'CHECKPOINT_INCOMPLETE', message: /no tokenizer\.json; download/ };
  assert.throws(() => checkpoint.requirePath('tokenizer'), error);
});

test('a SentencePiece model instead of tokenizer.json is told how to convert', (t) => {
  const files = { 'config.json': '{}', 'model.safetensors': model, 'tokenizer.model': '' };
  const checkpoint = openCheckpoint(temporaryFolder(t, files));
  assert.ok(checkpoint.kind === 'hugging-face');
  assert.throws(() => checkpoint.requirePath('tokenizer'), { message: /convert its tokenizer\.model/ });
});

test('a GGUF opens as a file, and from a folder that holds only it', (t) => {
  const folder = temporaryFolder(t, { 'model.gguf': gguf, 'README.md': '' });
  for (const path of [folder, join(folder, 'model.gguf')]) {
    const checkpoint = openCheckpoint(path);
    assert.ok(checkpoint.kind === 'gguf');
    assert.equal(checkpoint.architecture, 'llama');
  }
  writeFileSync(join(folder, 'other.gguf'), gguf);
  refuses(
    folder,
    'CHECKPOINT_UNRECOGNIZED',
    /holds 2 GGUF models; give one of them: model\.gguf, other\.gguf/,
  );
  const later = temporaryFolder(t, { 'm-00002-of-00003.gguf': gguf });
  refuses(later, 'CHECKPOINT_INCOMPLETE', /without the first file of its set/);
});

test('a tensor of a type that no device computes with is missing only when asked for', (t) => {
  const header = { mask: { dtype: 'BOOL', shape: [4], data_offsets: [0, 4] } };
  const weights = rawSafetensors(header, Buffer.alloc(4));
  const checkpoint = openCheckpoint(
    temporaryFolder(t, { 'config.json': '{}', 'model.safetensors': weights }),
  );
  assert.ok(checkpoint.kind === 'hugging-face');
  assert.throws(() => checkpoint.tensor('mask'), {
    code: 'TENSOR_TYPE_UNSUPPORTED',
    message: /'mask' is of type BOOL/,
  });
});

test('everything else is named, with what to give instead', (t) => {
  const pickle = temporaryFolder(t, { 'config.json': '{}', 'pytorch_model.bin': 'PK' });
  refuses(
    pickle,
    'CHECKPOINT_FORMAT_UNSUPPORTED',
    /pytorch_model\.bin is not safetensors.*safe_serialization=True/,
  );
  refuses(join(pickle, 'pytorch_model.bin'), 'CHECKPOINT_FORMAT_UNSUPPORTED', /is not safetensors/);
  refuses(temporaryFolder(t), 'CHECKPOINT_UNRECOGNIZED', /is empty; give a Hugging Face folder/);
  refuses(temporaryFolder(t, { a: '' }), 'CHECKPOINT_UNRECOGNIZED', /no config\.json and no \.gguf file/);
  refuses(
    temporaryFolder(t, { 'config.json': '{}' }),
    'CHECKPOINT_INCOMPLETE',
    /no weights; download model\.safetensors/,
  );
  const adapter = temporaryFolder(t, { 'adapter_config.json': '{}', 'adapter_model.safetensors': model });
  refuses(adapter, 'CHECKPOINT_UNRECOGNIZED', /is a LoRA adapter.*base model/);
  refuses(temporaryFolder(t, { 'engine.json': '{}' }), 'CHECKPOINT_UNRECOGNIZED', /is a built engine/);
  const shard = temporaryFolder(t, { 'config.json': '{}', 'model-00001-of-00002.safetensors': model });
  refuses(shard, 'CHECKPOINT_INCOMPLETE', /has model-00001-of-00002\.safetensors, but neither/);
  refuses(join(shard, 'model-00001-of-00002.safetensors'), 'CHECKPOINT_UNRECOGNIZED', /give the folder: /);
  refuses(join(shard, 'nothing'), 'CHECKPOINT_NOT_FOUND', /does not exist/);
  const old = temporaryFolder(t, { 'a.bin': 'tjgg\x01\0\0\0', empty: '' });
  refuses(join(old, 'a.bin'), 'CHECKPOINT_FORMAT_UNSUPPORTED', /from before GGUF/);
  refuses(join(old, 'empty'), 'CHECKPOINT_UNRECOGNIZED', /neither a GGUF file nor a folder/);
  refuses('/dev/zero', 'CHECKPOINT_UNREADABLE', /not a regular file/);
});

test('damaged JSON files are named', (t) => {
  const withConfig = (config: string | Uint8Array) =>
    temporaryFolder(t, { 'config.json': config, 'model.safetensors': model });
  refuses(withConfig('{"a":'), 'CHECKPOINT_JSON_INVALID', /config\.json is not valid JSON/);
  refuses(withConfig('[]'), 'CHECKPOINT_JSON_INVALID', /config\.json holds no JSON object/);
  refuses(
    withConfig(Buffer.from([0x7b, 0xff, 0x7d])),
    'CHECKPOINT_JSON_INVALID',
    /config\.json is not valid JSON/,
  );
  const folder = temporaryFolder(t, { 'model.safetensors': model });
  mkdirSync(join(folder, 'config.json'));
  refuses(folder, 'CHECKPOINT_UNREADABLE', /config\.json is no regular file/);
});
