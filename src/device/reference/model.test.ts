import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GraphBuilder } from '../../graph/builder.ts';
import type { DeviceModelOptions, DeviceModelSource, WeightTensor } from '../device.ts';
import { openDevice } from './index.ts';

const options: DeviceModelOptions = { batchTokensMax: 4, kvDtype: 'f32', threads: 1 };

function source(weights: [string, WeightTensor][]): DeviceModelSource {
  return {
    record(shape) {
      const g = new GraphBuilder();
      const batch = g.batch(shape);
      const x = g.embedding(g.weight('table', [4, 4], 'f32'), batch.tokens);
      return g.finish({ logits: g.rows(x, batch.outputRows) });
    },
    weights: new Map(weights),
    kv: { layers: [] },
    vocabularySize: 4,
    contextLength: 8,
  };
}

const table: WeightTensor = {
  name: 'table',
  dtype: 'f32',
  shape: [4, 4],
  path: '/nowhere',
  offset: 0,
  byteLength: 64,
};

test('missing and misdeclared weights are refused by name at load', async () => {
  const device = openDevice();
  const load = async (weights: [string, WeightTensor][]) => device.load(source(weights), options);
  await assert.rejects(load([]), { code: 'DEVICE_WEIGHT_MISSING' });
  await assert.rejects(
    load([['table', { ...table, shape: [4, 5] }]]),
    /'table' is f32\[4, 5\]; the graph expects f32\[4, 4\]/,
  );
  await assert.rejects(load([['table', { ...table, dtype: 'f16' }]]), { code: 'DEVICE_WEIGHT_INVALID' });
});

test('the device takes no options', () => {
  assert.throws(() => openDevice({ poll: '1' }), /takes no options; 'poll' was given/);
});
