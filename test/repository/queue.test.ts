import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { InferResponse } from '../../src/repository/model.ts';
import { tensorOf } from '../../src/repository/tensor.ts';
import { identityConfig, inferAll, testRepository } from './model-folder.ts';

const slow = (milliseconds: number, batching: string) => ({
  'm/config.pbtxt': `${identityConfig} parameters { key: "execute_delay_ms" value { string_value: "${milliseconds}" } }
    dynamic_batching { ${batching} }`,
  'm/1/x': '',
});
const one = (value = 1, length = 1) => ({
  inputs: [tensorOf('INPUT0', 'INT32', [1, length], new Int32Array(length).fill(value))],
});

describe('the queue of a model', () => {
  test('is bounded, with both texts that clients look for', async () => {
    const { repository, close } = await testRepository(
      slow(50, 'default_queue_policy { max_queue_size: 2 } preferred_batch_size: 1'),
    );
    const model = repository.model('m');
    const answers: Promise<InferResponse[]>[] = [];
    for (let i = 0; i < 3; i++) answers.push(inferAll(model, one()));
    await assert.rejects(inferAll(model, { ...one(), id: '7' }), {
      status: 'UNAVAILABLE',
      message: /^\[request id: 7\] Exceeds maximum queue size: Maximum queue size of 2/,
    });
    await Promise.all(answers);
    const [statistics] = repository.statistics('m');
    assert.equal(statistics?.failures.REJECTED, 1);
    assert.equal(statistics?.inference_stats.success.count, 3);
    await close();
  });

  test('batches what fits together, up to the preferred size', async () => {
    const { repository, close } = await testRepository(slow(20, 'preferred_batch_size: [ 4 ]'));
    const model = repository.model('m');
    // The first goes alone; of those that wait meanwhile, equal shapes go together.
    await Promise.all(
      [one(), one(), one(), one(), one(), one(), one(1, 2)].map((request) => inferAll(model, request)),
    );
    const sizes = repository
      .statistics('m')[0]
      ?.batch_stats.map(({ batch_size, compute_infer }) => [batch_size, compute_infer.count]);
    assert.deepEqual(sizes, [
      [1, 3],
      [4, 1],
    ]);
    await close();
  });

  test('waits for a batch no longer than the queue delay', async () => {
    const { repository, close } = await testRepository(slow(0, 'max_queue_delay_microseconds: 20000'));
    const model = repository.model('m');
    await Promise.all([one(), one(), one()].map((request) => inferAll(model, request)));
    assert.deepEqual(
      repository.statistics('m')[0]?.batch_stats.map(({ batch_size }) => batch_size),
      [3],
    );
    await close();
  });

  test('rejects what waited too long; the request may shorten the time', async () => {
    const { repository, close } = await testRepository(
      slow(
        80,
        'preferred_batch_size: 1 default_queue_policy { default_timeout_microseconds: 60000000 allow_timeout_override: true }',
      ),
    );
    const model = repository.model('m');
    const first = inferAll(model, one());
    await assert.rejects(inferAll(model, { ...one(), timeoutUs: 5000 }), {
      status: 'UNAVAILABLE',
      message: /Request timeout expired/,
    });
    await first;
    await close();
  });

  test('urgent levels go first, delayed requests last', async () => {
    const { repository, close } = await testRepository(
      slow(
        30,
        `preferred_batch_size: 1 priority_levels: 2 default_priority_level: 2
         priority_queue_policy { key: 2 value { timeout_action: DELAY default_timeout_microseconds: 1000 } }`,
      ),
    );
    const model = repository.model('m');
    const order: string[] = [];
    const run = (name: string, priority: number) =>
      inferAll(model, { ...one(), priority }).then(() => order.push(name));
    const all = [run('running', 0), run('late', 2)];
    await new Promise((resolve) => setTimeout(resolve, 10));
    all.push(run('urgent', 1));
    await Promise.all(all);
    assert.deepEqual(order, ['running', 'urgent', 'late']);
    await close();
  });

  test('a cancelled request leaves the queue', async () => {
    const { repository, close } = await testRepository(slow(40, 'preferred_batch_size: 1'));
    const model = repository.model('m');
    const first = inferAll(model, one());
    const respond = () => assert.fail('answered after the cancel');
    const second = model.infer({ id: '', parameters: {}, ...one() }, { respond });
    second.cancel();
    second.cancel();
    await first;
    await inferAll(model, one());
    const [statistics] = repository.statistics('m');
    assert.equal(statistics?.failures.CANCELED, 1);
    assert.equal(statistics?.pendingRequests, 0);
    await close();
  });
});
