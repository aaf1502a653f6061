import { openGguf } from '../../src/checkpoint/gguf-reader.ts';
import { writeGguf } from '../../src/checkpoint/gguf-writer.ts';
import type { DeviceModelSource } from '../../src/device/device.ts';
import { GraphBuilder } from '../../src/graph/builder.ts';

const vocabularySize = 96;
const width = 32;

/** A network whose logits are the row of a table that its token names: tokens 3, 40 and 95 are equally likely, whatever was said. */
export async function tiedSource(path: string): Promise<DeviceModelSource> {
  const table = new Float32Array(vocabularySize * width).fill(1);
  const output = new Float32Array(vocabularySize * width);
  for (const id of [3, 40, 95]) output.fill(0.5, id * width, (id + 1) * width);
  const tensor = (name: string, values: Float32Array) => ({
    name,
    shape: [vocabularySize, width],
    dtype: 'f32' as const,
    data: new Uint8Array(values.buffer),
  });
  await writeGguf(path, {
    metadata: [['general.architecture', { type: 'string', value: 'test' }]],
    tensors: [tensor('table', table), tensor('output', output)],
  });
  return {
    record(shape) {
      const g = new GraphBuilder();
      const batch = g.batch(shape);
      const weight = (name: string) => g.weight(name, [vocabularySize, width], 'f32');
      const x = g.rows(g.embedding(weight('table'), batch.tokens), batch.outputRows);
      return g.finish({ logits: g.linear(x, { name: 'output', weight: weight('output') }) });
    },
    weights: openGguf(path).tensors,
    kv: { layers: [] },
    vocabularySize,
    contextLength: 16,
  };
}
