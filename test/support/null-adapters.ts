import type { ModelLinear } from '../../src/models/linears.ts';
import type { AdapterSettings } from '../../src/runtime/adapters/adapter.ts';

/** What adapters may change on the null device, as if it had two layers. */
export const nullLinears: ModelLinear[] = [0, 1].map((layer) => ({
  name: `layers.${layer}.attention.q`,
  hf: [`model.layers.${layer}.self_attn.q_proj`],
  gguf: `blk.${layer}.attn_q`,
  inputs: 4,
  outputs: 3,
  transform: { kind: 'none' },
}));

export const nullAdapterSettings: AdapterSettings = { slots: 2, rankMax: 8, hostBytesMax: 10_000 };

const attentionQ = 1;

/** An adapter over {@link nullLinears} in the layout of `hf_lora_convert.py`, told apart by its number: half floats, and rows of its config. */
export function adapterArrays(number: number, rank = 2) {
  const rows = nullLinears.length;
  const length = rank * (4 + 3);
  return {
    rows,
    length,
    // Bits of half floats around 1.
    weights: Uint16Array.from({ length: rows * length }, (_, at) => 0x3c00 + ((at * 7 + number) % 200)),
    config: Int32Array.from([attentionQ, 0, rank, attentionQ, 1, rank]),
  };
}
