import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually, testEngine } from '../../test/openai/test-server.ts';
import { greedySampling } from '../runtime/requests/request.ts';
import {
  Generation,
  type GenerationInput,
  type GenerationListener,
  type GenerationObserver,
  type GenerationRecord,
} from './generation.ts';
import { GenerationGroup } from './generation-group.ts';

const input: GenerationInput = {
  promptTokens: Int32Array.of(1, 2, 3),
  sampling: greedySampling,
  maxTokens: 50,
  minTokens: 0,
  stopTokenIds: [],
  ignoreEos: false,
  stopStrings: [],
  includeStopString: false,
  skipSpecialTokens: true,
  sequences: 1,
  priority: 0,
};

function observed(): { records: GenerationRecord[]; observer: GenerationObserver } {
  const records: GenerationRecord[] = [];
  return {
    records,
    observer: { firstToken: () => {}, interToken: () => {}, finished: (record) => records.push(record) },
  };
}

test('a stop string ends its own sequence only, and the engine stops working on it', async () => {
  const { engine, model } = await testEngine({ says: 'abcdefghij' });
  const texts = ['', ''];
  const finishes: (string | undefined)[] = [];
  const { records, observer } = observed();
  const usage = await new Promise<{ completionTokens: number }>((resolve, reject) => {
    const listener: GenerationListener = {
      delta: (delta) => {
        texts[delta.sequence] += delta.text;
        if (delta.finish) finishes[delta.sequence] = delta.finish;
      },
      end: resolve,
      fail: reject,
    };
    new Generation(model, { ...input, sequences: 2, stopStrings: ['gh'] }, listener, { observer });
  });
  assert.deepEqual(texts, ['def', 'def']);
  assert.deepEqual(finishes, ['stop', 'stop']);
  assert.equal(usage.completionTokens, 2 * 5);
  assert.deepEqual(
    [records.length, records[0]?.outcome, records[0]?.usage.completionTokens],
    [1, 'stop', 10],
  );
  await eventually(() => engine.statistics().runningSequences === 0, 'the engine stops');
  await engine.close();
});

test('a listener that throws fails its own request, cancels it and leaves the others alone', async () => {
  const { engine, model } = await testEngine({ says: 'abc' });
  const other = new Promise((resolve, reject) => {
    new Generation(model, input, { delta: () => {}, end: resolve, fail: reject });
  });
  const { records, observer } = observed();
  const failure = await new Promise<Error>((resolve, reject) => {
    const delta = () => {
      throw new TypeError('oops');
    };
    new Generation(model, input, { delta, end: reject, fail: resolve }, { observer });
  });
  assert.match(failure.message, /oops/);
  assert.deepEqual(
    records.map((record) => record.outcome),
    ['error'],
  );
  await other;
  await engine.close();
});

test('cancel is final and silent', async () => {
  const { engine, model } = await testEngine({ says: 'abc', stepMs: 1 });
  const heard: string[] = [];
  const { records, observer } = observed();
  const listener: GenerationListener = {
    delta: () => heard.push('delta'),
    end: () => heard.push('end'),
    fail: () => heard.push('fail'),
  };
  const generation = new Generation(model, { ...input, maxTokens: 1000 }, listener, { observer });
  await eventually(() => heard.length > 2, 'it runs');
  generation.cancel();
  generation.cancel();
  const count = heard.length;
  await eventually(() => engine.statistics().runningSequences === 0, 'the engine stops');
  assert.equal(heard.length, count);
  assert.deepEqual(
    records.map((record) => record.outcome),
    ['abort'],
  );
  await engine.close();
});

test('a group submits all of its prompts or none', async () => {
  const { engine, model } = await testEngine({ says: 'abc', stepMs: 1, queuedRequestsMax: 2 });
  const answer = { start: () => {}, delta: () => {}, end: () => {}, fail: () => {} };
  const inputs = Array.from({ length: 5 }, () => input);
  assert.throws(() => new GenerationGroup(model, inputs, answer), { code: 'QUEUE_FULL' });
  await eventually(() => engine.statistics().waitingRequests === 0, 'none is left');
  assert.equal(engine.statistics().runningSequences, 0);
  await engine.close();
});

for (const fails of [false, true]) {
  test(`with a stream interval ${fails ? 'a failure' : 'the end'} brings all that was held back; counts are the same`, async () => {
    const { engine, model } = await testEngine({ says: 'abcdefghij', stepMs: 1 });
    const texts: string[] = [];
    const done = new Promise<string>((resolve) => {
      const listener: GenerationListener = {
        delta: ({ text }) => {
          texts.push(text);
          // The engine ends what runs when it is closed: to the client that is a failure.
          if (fails && texts.length === 2) setTimeout(() => void engine.close(), 3);
        },
        end: ({ completionTokens }) => resolve(`${completionTokens} tokens`),
        fail: ({ message }) => resolve(message),
      };
      new Generation({ ...model, streamInterval: 7 }, { ...input, maxTokens: fails ? 1500 : 31 }, listener);
    });
    const outcome = await done;
    const all = texts.join('');
    const script = 'defghijabc'.repeat(200);
    assert.ok(script.startsWith(all));
    assert.equal(texts[0], 'd');
    if (fails) {
      assert.match(outcome, /ended this request/);
      assert.equal(all.length, engine.statistics().generatedTokens);
    } else {
      assert.equal(outcome, '31 tokens');
      assert.deepEqual(
        texts.map((text) => text.length),
        [1, 7, 7, 7, 7, 2],
      );
      await engine.close();
    }
  });
}
