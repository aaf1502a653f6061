import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SeededRandom } from '../../src/base/random.ts';
import { openDraftHead } from '../../src/builder/open-draft-head.ts';
import { writeSafetensors } from '../../src/checkpoint/safetensors-writer.ts';
import type { DeviceModelSource } from '../../src/device/device.ts';

/** An EAGLE head of random weights over a small model, written to `folder`: what it guesses is seldom right. */
export async function randomHead(folder: string, target: DeviceModelSource): Promise<DeviceModelSource> {
  const width = target.hiddenWidth ?? 0;
  const heads = 4;
  const config = {
    ...{ architectures: ['EagleLlamaForCausalLM'], hidden_act: 'silu', hidden_size: width },
    ...{ num_attention_heads: heads, num_key_value_heads: heads, head_dim: width / heads },
    ...{ num_hidden_layers: 1, intermediate_size: width, vocab_size: target.vocabularySize },
    max_position_embeddings: target.contextLength,
  };
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  const layer = 'layers.0';
  const matrices: [name: string, shape: number[]][] = [
    ['fc.weight', [width, 2 * width]],
    ...['q', 'k', 'v', 'o'].map((part): [string, number[]] => [
      `${layer}.self_attn.${part}_proj.weight`,
      [width, width],
    ]),
    ...['gate', 'up', 'down'].map((part): [string, number[]] => [
      `${layer}.mlp.${part}_proj.weight`,
      [width, width],
    ]),
    ...[`${layer}.input_layernorm.weight`, `${layer}.post_attention_layernorm.weight`, 'norm.weight'].map(
      (name): [string, number[]] => [name, [width]],
    ),
  ];
  const random = new SeededRandom(17);
  const tensors = matrices.map(([name, shape]) => {
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () =>
      shape.length === 1 ? 1 : (random.next() * 2 - 1) / Math.sqrt(width),
    );
    return { name, dtype: 'f32' as const, shape, data: new Uint8Array(values.buffer) };
  });
  await writeSafetensors(join(folder, 'model.safetensors'), { tensors });
  return openDraftHead(folder, target);
}
