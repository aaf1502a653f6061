import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testServer } from '../../../test/openai/test-server.ts';

const person = {
  type: 'object',
  properties: { name: { type: 'string', maxLength: 8 }, age: { type: 'integer', minimum: 0, maximum: 120 } },
  required: ['name', 'age'],
  additionalProperties: false,
};

async function complete(fields: object, url = '/v1/chat/completions', says?: string) {
  const server = await testServer(says === undefined ? {} : { says });
  try {
    const payload = { messages: [{ role: 'user', content: 'hi' }], max_tokens: 400, ...fields };
    const response = await server.app.inject({ method: 'POST', url, payload });
    return { status: response.statusCode, body: response.json(), text: response.body };
  } finally {
    await server.close();
  }
}

test('a chat with a JSON schema answers JSON of that schema, drawn at temperature 1 and greedily', async () => {
  for (const temperature of [0, 1]) {
    const response_format = {
      type: 'json_schema',
      json_schema: { name: 'person', strict: true, schema: person },
    };
    const { status, body } = await complete({ response_format, temperature, n: 3, seed: 5 });
    assert.equal(status, 200, JSON.stringify(body));
    for (const { message, finish_reason } of body.choices) {
      assert.equal(finish_reason, 'stop');
      const { name, age } = JSON.parse(message.content);
      assert.ok(typeof name === 'string' && age >= 0 && age <= 120, message.content);
    }
  }
});
