// Drives a Nereid server with one third-party JavaScript client, the way its own documentation shows, and asserts what it sees.
// Usage: clients.mjs CLIENT SAYS_URL CALLS_URL. Each URL is a server whose model always answers the same: a sentence, a call to `add`.
import assert from 'node:assert/strict';

const says = 'Once upon a time, a client asked.';
const [name, saysUrl, callsUrl] = process.argv.slice(2);
const sum = { a: 1, b: 2 };

const clients = {
  async langchain() {
    const { ChatOpenAI } = await import('@langchain/openai');
    const { tool } = await import('@langchain/core/tools');
    const { z } = await import('zod');
    const model = (url, more = {}) =>
      new ChatOpenAI({ model: 'test', apiKey: 'none', configuration: { baseURL: `${url}/v1` }, ...more });
    assert.equal((await model(saysUrl).invoke('Tell me.')).content, says);
    let text = '';
    for await (const chunk of await model(saysUrl).stream('Tell me.')) text += chunk.content;
    assert.equal(text, says);
    const add = tool(({ a, b }) => a + b, {
      name: 'add',
      description: 'Adds two numbers.',
      schema: z.object({ a: z.number(), b: z.number() }),
    });
    const called = await model(callsUrl).bindTools([add]).invoke('What is 1 + 2?');
    assert.deepEqual(called.tool_calls?.[0]?.args, sum);
    const overResponses = await model(saysUrl, { useResponsesApi: true }).invoke('Tell me.');
    assert.equal(overResponses.text, says);
  },

  async 'ai-sdk'() {
    const { generateText, streamText, tool } = await import('ai');
    const { createOpenAI } = await import('@ai-sdk/openai');
    const { createOpenAICompatible } = await import('@ai-sdk/openai-compatible');
    const { createAnthropic } = await import('@ai-sdk/anthropic');
    const { z } = await import('zod');
    const add = tool({ description: 'Adds.', inputSchema: z.object({ a: z.number(), b: z.number() }) });
    const providers = (url) => [
      // The default of this one is the Responses API.
      createOpenAI({ baseURL: `${url}/v1`, apiKey: 'none' })('test'),
      createOpenAI({ baseURL: `${url}/v1`, apiKey: 'none' }).chat('test'),
      createOpenAICompatible({ name: 'nereid', baseURL: `${url}/v1`, includeUsage: true })('test'),
      createAnthropic({ baseURL: `${url}/v1`, apiKey: 'none' })('test'),
    ];
    for (const model of providers(saysUrl)) {
      assert.equal((await generateText({ model, prompt: 'Tell me.' })).text, says);
      const stream = streamText({ model, prompt: 'Tell me.' });
      let text = '';
      for await (const piece of stream.textStream) text += piece;
      assert.equal(text, says);
      assert.ok(((await stream.usage).outputTokens ?? 0) > 0);
    }
    for (const model of providers(callsUrl)) {
      const whole = await generateText({ model, prompt: 'What is 1 + 2?', tools: { add } });
      assert.deepEqual(whole.toolCalls[0]?.input, sum);
      const streamed = streamText({ model, prompt: 'What is 1 + 2?', tools: { add } });
      assert.deepEqual((await streamed.toolCalls)[0]?.input, sum);
      assert.equal(await streamed.finishReason, 'tool-calls');
    }
  },

  async anthropic() {
    const { default: Anthropic } = await import('@anthropic-ai/sdk');
    const client = new Anthropic({ baseURL: saysUrl, apiKey: 'none', maxRetries: 0 });
    const fields = { model: 'test', max_tokens: 200, messages: [{ role: 'user', content: 'Tell me.' }] };
    const answer = await client.messages.create(fields);
    assert.equal(answer.content[0].text, says);
    assert.equal(await client.messages.stream(fields).finalText(), says);
    const tools = [{ name: 'add', input_schema: { type: 'object', properties: {} } }];
    const caller = new Anthropic({ baseURL: callsUrl, apiKey: 'none', maxRetries: 0 });
    const called = await caller.messages.stream({ ...fields, tools }).finalMessage();
    assert.equal(called.stop_reason, 'tool_use');
    assert.deepEqual(called.content[0].input, sum);
  },
};

await clients[name]();
console.log('ok');
