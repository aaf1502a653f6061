import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UnknownNameError } from '../base/registry.ts';
import { verifyGraph } from '../graph/spec.ts';
import type { JsonRecord } from './config.ts';
import { ModelError } from './errors.ts';
import type { StoredWeight } from './graph-weights.ts';
import type { Metadata, MetadataReader } from './metadata.ts';
import { architectureOfConfig, architectureOfGguf, architectures, classNames } from './registry.ts';
import { modelSource } from './source.ts';
import { modelWeights } from './weights.ts';

const llamaConfig: JsonRecord = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 256,
  max_position_embeddings: 128,
  rms_norm_eps: 0.5,
  tie_word_embeddings: true,
};
const gpt2Config: JsonRecord = {
  architectures: ['GPT2LMHeadModel'],
  n_embd: 48,
  n_head: 3,
  n_layer: 3,
  n_positions: 11,
  vocab_size: 3,
  layer_norm_epsilon: 0.5,
};

function readerOf(metadata: Metadata): MetadataReader {
  const value = (key: string) => metadata.get(key)?.value;
  return {
    optionalNumber: (key) => value(key) as number | undefined,
    optionalString: (key) => value(key) as string | undefined,
    optionalStrings: (key) => value(key) as string[] | undefined,
    optionalBooleans: (key) => value(key) as boolean[] | undefined,
  };
}

async function tensorsOf(config: JsonRecord): Promise<Map<string, StoredWeight>> {
  const architecture = await architectureOfConfig(config);
  const p = architecture.hyperparameters(config);
  const weights = modelWeights(architecture, p).filter((weight) => weight.presence !== 'optional');
  return new Map(
    weights.map(({ gguf, shape }) => [gguf, { name: gguf, shape, dtype: shape.length > 1 ? 'f16' : 'f32' }]),
  );
}

test("the registry's class names and GGUF names are those of its rows", async () => {
  const rows = await Promise.all(architectures.names.map((name) => architectures.load(name)));
  assert.deepEqual(
    rows.map((row) => row.name),
    architectures.names,
  );
  assert.deepEqual(
    rows.flatMap((row) => [...row.names]),
    classNames,
  );
  for (const row of rows) {
    for (const name of row.names) assert.equal(await architectureOfConfig({ architectures: [name] }), row);
    const metadata: Metadata = new Map([['general.architecture', { type: 'string', value: row.ggufName }]]);
    assert.equal(await architectureOfGguf(readerOf(metadata)), row);
  }
});

test('an unknown class or architecture lists the known ones', async () => {
  const unknown = (thrown: unknown) =>
    thrown instanceof UnknownNameError &&
    /unknown model class 'Foo'; known: LlamaForCausalLM, /.test(thrown.message);
  await assert.rejects(architectureOfConfig({ architectures: ['Foo'] }), unknown);
  await assert.rejects(architectureOfConfig({}), /names no class in 'architectures'; known: Llama/);
  const metadata: Metadata = new Map([['general.architecture', { type: 'string', value: 'rwkv' }]]);
  await assert.rejects(
    architectureOfGguf(readerOf(metadata)),
    /unknown GGUF architecture 'rwkv'; known: llama/,
  );
  await assert.rejects(architectureOfGguf(readerOf(new Map())), /has no 'general.architecture'/);
});

test('hyperparameters survive the way into GGUF metadata and back', async () => {
  const scaled = { rope_scaling: { type: 'linear', factor: 4 } };
  const yarn = {
    rope_parameters: {
      rope_type: 'yarn',
      rope_theta: 1e6,
      factor: 4,
      original_max_position_embeddings: 32,
      beta_fast: 16,
      beta_slow: 2,
    },
  };
  const mistral = {
    architectures: ['MistralForCausalLM'],
    model_type: 'mistral',
    sliding_window: 8,
    head_dim: 32,
  };
  const qwen = {
    architectures: ['Qwen2ForCausalLM'],
    use_sliding_window: true,
    sliding_window: 8,
    max_window_layers: 1,
  };
  const configs = [llamaConfig, gpt2Config, { ...llamaConfig, architectures: ['Qwen3ForCausalLM'] }];
  for (const change of [scaled, yarn, mistral, qwen]) configs.push({ ...llamaConfig, ...change });
  for (const config of configs) {
    const architecture = await architectureOfConfig(config);
    const p = architecture.hyperparameters(config);
    const again = architecture.hyperparametersFromGguf(readerOf(architecture.ggufMetadata(p)));
    // Tying is not in the metadata: such a GGUF simply has no output.weight.
    assert.deepEqual({ ...again, tiedEmbeddings: p.tiedEmbeddings }, p);
  }
});

test('windows: of all Mistral layers, of the Qwen layers that are marked, of no plain Llama layer', async () => {
  const kv = async (config: JsonRecord) => {
    const architecture = await architectureOfConfig(config);
    return architecture.kv(architecture.hyperparameters(config)).layers.map((layer) => layer.window);
  };
  const window = { sliding_window: 8 };
  assert.deepEqual(await kv({ ...llamaConfig, ...window }), [undefined, undefined]);
  const mistral = { ...llamaConfig, ...window, architectures: ['MistralForCausalLM'], model_type: 'mistral' };
  assert.deepEqual(await kv(mistral), [8, 8]);
  const qwen = { ...llamaConfig, ...window, architectures: ['Qwen3ForCausalLM'], use_sliding_window: true };
  assert.deepEqual(await kv({ ...qwen, layer_types: ['sliding_attention', 'full_attention'] }), [
    8,
    undefined,
  ]);
  assert.deepEqual(await kv({ ...qwen, max_window_layers: 1 }), [undefined, 8]);
  assert.deepEqual(await kv({ ...qwen, max_window_layers: 0 }), [8, 8]);
  assert.deepEqual(await kv(qwen), [8, 8]);
  assert.deepEqual(await kv({ ...qwen, use_sliding_window: false }), [undefined, undefined]);
});

test('a config that is wrong or asks for what is not computed is refused by field', async () => {
  const cases: [RegExp, JsonRecord][] = [
    [/hidden_size must be a whole number of at least 1, but it is absent/, { hidden_size: undefined }],
    [/num_hidden_layers must be .*, but it is -1/, { num_hidden_layers: -1 }],
    [/vocab_size must be .*, but it is 1e\+300/, { vocab_size: 1e300 }],
    [/rms_norm_eps must be a number above 0, but it is "x"/, { rms_norm_eps: 'x' }],
    [/hidden_act is 'gelu'; supported: silu/, { hidden_act: 'gelu' }],
    [/num_key_value_heads is 3; it must divide 4 heads/, { num_key_value_heads: 3 }],
    [
      /rope_scaling.type is 'dynamic'; supported: default, linear/,
      { rope_scaling: { type: 'dynamic', factor: 2 } },
    ],
    [
      /rope_scaling.factor must be a number above 0, but it is absent/,
      { rope_scaling: { rope_type: 'linear' } },
    ],
    [/rope_scaling must be an object/, { rope_scaling: 4 }],
    [/partial_rotary_factor is not 1/, { partial_rotary_factor: 0.5 }],
  ];
  for (const [expected, change] of cases) {
    const config = { ...llamaConfig, ...change };
    const architecture = await architectureOfConfig(config);
    assert.throws(
      () => architecture.hyperparameters(config),
      (thrown) => thrown instanceof ModelError && expected.test(thrown.message),
      String(expected),
    );
  }
});

test('GGUF metadata that is incomplete or of a mixture of experts is refused by key', async () => {
  const llama = await architectures.load('llama');
  const metadata = new Map(llama.ggufMetadata(llama.hyperparameters(llamaConfig)));
  metadata.set('llama.expert_count', { type: 'u32', value: 8 });
  assert.throws(() => llama.hyperparametersFromGguf(readerOf(metadata)), /llama.expert_count is given/);
  metadata.delete('llama.expert_count');
  metadata.delete('llama.block_count');
  assert.throws(
    () => llama.hyperparametersFromGguf(readerOf(metadata)),
    /llama.block_count must be .* absent/,
  );
});

test('weights go by both names, with their transform; prefixes may be missing', async () => {
  const gpt2 = await architectures.load('gpt2');
  const weights = modelWeights(gpt2, gpt2.hyperparameters(gpt2Config));
  const qkv = weights.find((weight) => weight.gguf === 'blk.2.attn_qkv.weight')!;
  assert.deepEqual(qkv.hf, ['transformer.h.2.attn.c_attn.weight', 'h.2.attn.c_attn.weight']);
  assert.deepEqual([qkv.shape, qkv.hfShape, qkv.transform], [[144, 48], [48, 144], { kind: 'transpose' }]);
  assert.equal(qkv.logical, 'layers.2.attention.qkv.weight');
  const llama = await architectures.load('llama');
  const [k] = modelWeights(llama, llama.hyperparameters(llamaConfig)).filter(
    (w) => w.gguf === 'blk.1.attn_k.weight',
  );
  assert.deepEqual([k!.shape, k!.transform], [[32, 64], { kind: 'ropePermutation', heads: 2 }]);
});

test('a source records graphs that meet the spec, for any batch shape; only wanted rows leave the last layer', async () => {
  const qwen2 = { ...llamaConfig, architectures: ['Qwen2ForCausalLM'] };
  const qwen3 = { ...llamaConfig, architectures: ['Qwen3ForCausalLM'] };
  for (const config of [llamaConfig, gpt2Config, qwen2, qwen3]) {
    const architecture = await architectureOfConfig(config);
    const source = modelSource(architecture, architecture.hyperparameters(config), await tensorsOf(config));
    for (const outputRows of [0, 2]) {
      const graph = source.record({ tokens: 7, outputRows });
      verifyGraph(graph);
      const logits = graph.nodes[graph.outputs.logits!]!;
      assert.deepEqual(logits.shape, [outputRows, source.vocabularySize]);
      const norms = graph.nodes.filter((node) => node.op.endsWith('Norm') && node.shape.length === 2);
      assert.deepEqual(norms.at(-2)!.shape[0], outputRows);
    }
  }
});

test('a missing or misshapen tensor is named; tied ones fall back to the embedding table', async () => {
  const llama = await architectures.load('llama');
  const p = llama.hyperparameters(llamaConfig);
  const tensors = await tensorsOf(llamaConfig);
  tensors.delete('output.weight');
  const graph = modelSource(llama, p, tensors).record({ tokens: 1, outputRows: 1 });
  const logits = graph.nodes[graph.outputs.logits!]!;
  const table = graph.nodes[logits.inputs[1]!]!;
  assert.deepEqual(table.attributes, { name: 'token_embd.weight' });

  const norm = tensors.get('blk.1.ffn_norm.weight')!;
  tensors.set('blk.1.ffn_norm.weight', { ...norm, shape: [63] });
  assert.throws(
    () => modelSource(llama, p, tensors),
    /tensor 'blk.1.ffn_norm.weight' has shape \[63\], expected \[64\]/,
  );
  tensors.delete('blk.1.ffn_norm.weight');
  assert.throws(() => modelSource(llama, p, tensors), /tensor 'blk.1.ffn_norm.weight' is missing/);
});
