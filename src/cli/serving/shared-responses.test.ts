import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StoredResponse } from '../../protocol/responses/store.ts';
import type { ControlMessage, FrontEndMessage } from './front-end-messages.ts';
import { RemoteResponses } from './remote-responses.ts';
import { SharedResponses } from './shared-responses.ts';

const stored = (id: string): StoredResponse => ({
  response: { id, output: [] },
  input: [],
  conversation: [],
  owner: 'me',
});

/** Two front ends over one store. Their messages arrive at once, but those that the first one holds back. */
function twoFrontEnds() {
  const held: FrontEndMessage[] = [];
  let isHolding = false;
  const shared = new SharedResponses(() => [
    { caughtUp: async () => void (await Promise.all(held.splice(0).map((one) => shared.hear(one, first)))) },
  ]);
  const slot = (remote: () => RemoteResponses) => ({
    send: (message: ControlMessage) => {
      if (message.kind === 'response') remote().hear(message);
    },
  });
  const first = slot(() => one);
  const second = slot(() => other);
  const one = new RemoteResponses((message) => {
    if (isHolding) held.push(message);
    else void shared.hear(message, first);
  });
  const other = new RemoteResponses((message) => void shared.hear(message, second));
  return { one, other, hold: () => (isHolding = true) };
}

test('what one front end stores another finds, deletes, and then nobody finds', async () => {
  const { one, other } = twoFrontEnds();
  one.put(stored('a'));
  assert.equal((await other.get('a', 'me'))?.response.id, 'a');
  assert.equal(await other.get('a', 'you'), undefined);
  assert.equal(await other.delete('a', 'you'), false);
  assert.equal(await other.delete('a', 'me'), true);
  assert.equal(await one.get('a', 'me'), undefined);
  assert.equal(await one.delete('a', 'me'), false);
});

test('a response whose message is still on its way is waited for', async () => {
  const { one, other, hold } = twoFrontEnds();
  hold();
  one.put(stored('late'));
  assert.equal((await other.get('late', 'me'))?.response.id, 'late');
});
