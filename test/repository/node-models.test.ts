import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { bytesTensor, tensorOf, textsOf, valuesOf } from '../../src/repository/tensor.ts';
import { eventually } from '../openai/test-server.ts';
import { identityConfig, inferAll, testRepository } from './model-folder.ts';

const io = `
  backend: "node"
  input { name: "TEXT" data_type: TYPE_STRING dims: [ -1 ] }
  output { name: "OUT" data_type: TYPE_STRING dims: [ -1 ] }
`;
const texts = (...values: string[]) => [bytesTensor('TEXT', [values.length], values)];

/** Says what it is asked, so that one model shows everything. */
const script = `
export default class Model {
  initialize(context) { this.context = context; }
  async execute(requests) {
    const { bytesTensor, textsOf, infer, stream, tensorOf, valuesOf, ModelError, parameters } = this.context;
    const answers = [];
    for (const request of requests) {
      const [word, ...rest] = textsOf(request.input('TEXT'));
      const say = (...list) => ({ outputs: [bytesTensor('OUT', [list.length], list)] });
      if (word === 'throw') throw new Error('thrown on purpose');
      if (word === 'status') throw new ModelError('not now', 'UNAVAILABLE');
      if (word === 'error') answers.push({ error: 'refused on purpose' });
      else if (word === 'loop') for (;;);
      else if (word === 'exit') process.exit(3);
      else if (word === 'parameter') answers.push(say(parameters.greeting, String(request.parameters.custom), request.id));
      else if (word === 'call') {
        const inputs = [tensorOf('INPUT0', 'INT32', [1, 2], Int32Array.of(3, 4))];
        const { outputs } = await infer('identity', { inputs });
        answers.push(say(...Array.from(valuesOf(outputs[0], 'INT32'), String)));
      } else if (word === 'call-missing') {
        answers.push(say(await infer('missing', { inputs: [] }).catch((error) => error.message)));
      } else if (word === 'count') {
        for (const one of rest) request.send(say(one));
        request.end();
      } else if (word === 'wait') {
        request.send(say('waiting'));
        await new Promise((resolve) => request.signal.addEventListener('abort', resolve));
        globalThis.cancelled = true;
      } else if (word === 'was-cancelled') answers.push(say(String(globalThis.cancelled ?? false)));
      else if (word === 'meet') {
        const { readdirSync, writeFileSync } = await import('node:fs');
        const [folder, name, count] = rest;
        writeFileSync(folder + '/' + name, '');
        while (readdirSync(folder).length < Number(count)) await new Promise((resolve) => setTimeout(resolve, 10));
        answers.push(say('met'));
      }
      else answers.push(say(...[word, ...rest].map((one) => one.toUpperCase())));
    }
    return answers;
  }
}`;

const files = (config = '') => ({
  'm/config.pbtxt': `${io} parameters { key: "greeting" value { string_value: "hello" } } ${config}`,
  'm/1/model.js': script,
  'm/1/package.json': '{"type":"module"}',
  'identity/config.pbtxt': identityConfig,
  'identity/1/x': '',
});
const decoupled = 'model_transaction_policy { decoupled: true }';

describe('models in JavaScript', () => {
  test('answer, know their parameters, and call other models', async () => {
    const { repository, close } = await testRepository(files());
    assert.deepEqual(repository.failures(), []);
    const model = repository.model('m');
    const ask = async (...values: string[]) => {
      const request = { inputs: texts(...values), id: '7', parameters: { custom: 5 } };
      return textsOf((await inferAll(model, request))[0]!.outputs[0]!);
    };
    assert.deepEqual(await ask('a', 'b'), ['A', 'B']);
    assert.deepEqual(await ask('parameter'), ['hello', '5', '7']);
    assert.deepEqual(await ask('call'), ['3', '4']);
    assert.match((await ask('call-missing'))[0] ?? '', /Request for unknown model: 'missing' is not found/);
    await assert.rejects(ask('throw'), /thrown on purpose/);
    await assert.rejects(ask('error'), { status: 'INTERNAL', message: 'refused on purpose' });
    await assert.rejects(ask('status'), { status: 'UNAVAILABLE', message: 'not now' });
    await close();
  });

  test('send any number of responses where they are decoupled, and hear of a cancel', async () => {
    const { repository, close } = await testRepository(files(decoupled));
    const model = repository.model('m');
    const responses = await inferAll(model, { inputs: texts('count', 'x', 'y', 'z') });
    assert.deepEqual(
      responses.map(({ outputs }) => textsOf(outputs[0]!)[0]),
      ['x', 'y', 'z'],
    );
    let isWaiting = false;
    const inference = model.infer(
      { id: '', inputs: texts('wait'), parameters: {} },
      { respond: () => (isWaiting = true) },
    );
    await eventually(() => isWaiting, 'the model waits');
    inference.cancel();
    const [answer] = await inferAll(model, { inputs: texts('was-cancelled') });
    assert.equal(textsOf(answer!.outputs[0]!)[0], 'true');
    await close();
  });

  test('instances run side by side: each waits for the others', async () => {
    const { repository, close } = await testRepository(files('instance_group [ { count: 3 } ]'));
    const model = repository.model('m');
    const folder = mkdtempSync(join(tmpdir(), 'nereid-meeting-'));
    const meetings = ['a', 'b', 'c'].map((name) =>
      inferAll(model, { inputs: texts('meet', folder, name, '3') }),
    );
    for (const [answer] of await Promise.all(meetings))
      assert.deepEqual(textsOf(answer!.outputs[0]!), ['met']);
    rmSync(folder, { recursive: true });
    await close();
  });

  test('one that never returns blocks nobody else, and ends with its model', async () => {
    const { repository, close } = await testRepository(files(), {
      controlMode: 'explicit',
      loadModels: ['*'],
      drainMs: 0,
    });
    const stuck = inferAll(repository.model('m'), { inputs: texts('loop') });
    const [answer] = await inferAll(repository.model('identity'), {
      inputs: [tensorOf('INPUT0', 'INT32', [1, 1], Int32Array.of(1))],
    });
    assert.equal(valuesOf(answer!.outputs[0]!, 'INT32')[0], 1);
    await repository.unload('m');
    await assert.rejects(stuck, /was unloaded while this request ran/);
    await close();
  });

  test('one that dies fails its requests, and is started again', async () => {
    const { repository, close } = await testRepository(files());
    const model = repository.model('m');
    await assert.rejects(inferAll(model, { inputs: texts('exit') }), /died: its thread ended \(exit 3\)/);
    const [answer] = await inferAll(model, { inputs: texts('a') });
    assert.deepEqual(textsOf(answer!.outputs[0]!), ['A']);
    await close();
  });

  test('one that does not load is the reason', async () => {
    const reason = async (text: string | undefined) => {
      const { repository, close } = await testRepository({
        'm/config.pbtxt': io,
        'm/1/package.json': '{"type":"module"}',
        ...(text === undefined ? {} : { 'm/1/model.js': text }),
      });
      const [failure] = repository.failures();
      await close();
      return failure?.reason ?? 'none';
    };
    assert.match(await reason(undefined), /there is no .*model.js/);
    assert.match(await reason('export const x = 1;'), /must export a class/);
    assert.match(await reason('export default class {}'), /has no execute/);
    assert.match(
      await reason('export default class { initialize() { throw new Error("no way"); } execute() {} }'),
      /no way/,
    );
    assert.match(await reason('syntax error'), /failed to load model 'm'/);
  });
});
