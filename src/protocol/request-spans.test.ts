import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { post } from '../../test/openai/inject.ts';
import { testServer } from '../../test/openai/test-server.ts';
import { otlpSender } from './otlp-sender.ts';
import { parentOf, queuedSpansMax, RequestSpans, type Span, spanTarget } from './request-spans.ts';

const trace = '0af7651916cd43dd8448eb211c80319c';
const parent = 'b7ad6b7169203331';

function attribute(span: Span | undefined, key: string): unknown {
  const value = span?.attributes.find((one) => one.key === key)?.value;
  if (!value) return undefined;
  if ('arrayValue' in value) return value.arrayValue.values.map((one) => one.stringValue);
  if ('intValue' in value) return Number(value.intValue);
  return Object.values(value)[0];
}

test('a request is one span in its caller’s trace, sent to the collector as OTLP', async () => {
  const bodies: { resourceSpans: { resource: object; scopeSpans: { spans: Span[] }[] }[] }[] = [];
  const seen: Record<string, unknown>[] = [];
  const collector = createServer(async (request, response) => {
    let text = '';
    for await (const bytes of request) text += bytes;
    bodies.push(JSON.parse(text));
    seen.push({ url: request.url, key: request.headers['x-key'] });
    response.end('{}');
  }).listen(0, '127.0.0.1');
  await once(collector, 'listening');
  const { port } = collector.address() as AddressInfo;
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}/`,
    OTEL_EXPORTER_OTLP_HEADERS: 'x-key=a%3Db',
  };
  const target = spanTarget(env);
  assert.ok(target);
  const spans = new RequestSpans(otlpSender(target, '1.2.3'));
  const server = await testServer({ says: 'abc' }, { spans });
  const send = (traceparent: string, payload: object) => {
    const headers = { traceparent, tracestate: 'vendor=1' };
    return server.app.inject({ method: 'POST', url: '/v1/chat/completions', headers, payload });
  };
  const messages = [{ role: 'user', content: 'secret words' }];
  await send(`00-${trace}-${parent}-01`, { messages, max_tokens: 3 });
  await send(`00-${trace}-${parent}-00`, { messages, max_tokens: 3 });
  await post(server, '/v1/completions', { prompt: 'x', temperature: 9 });
  await new Promise(setImmediate);
  await spans.close();
  await server.close();
  collector.close();
  const found = bodies[0]?.resourceSpans[0]?.scopeSpans[0]?.spans ?? [];
  const requests = found.filter(({ kind }) => kind === 2);
  assert.equal(requests.length, 2, 'what the caller does not sample is not sent');
  const [chat, refused] = requests;
  const phases = found.filter(({ parentSpanId }) => parentSpanId === chat?.spanId);
  assert.deepEqual(
    phases.map(({ name, traceId }) => [name, traceId]),
    ['queue', 'prefill', 'decode'].map((name) => [name, trace]),
  );
  const times = phases.flatMap((span) => [span.startTimeUnixNano, span.endTimeUnixNano].map(BigInt));
  const inOrder = [...times].sort((left, right) => Number(left - right));
  assert.deepEqual(times, inOrder);
  assert.ok(times[0]! >= BigInt(chat!.startTimeUnixNano) && times.at(-1)! <= BigInt(chat!.endTimeUnixNano));
  assert.equal(attribute(phases[2], 'gen_ai.usage.output_tokens'), 3);
  assert.equal(chat?.traceState, 'vendor=1');
  assert.equal(attribute(chat, 'gen_ai.request.max_tokens'), 3);
  assert.equal(attribute(chat, 'gen_ai.request.stream'), false);
  assert.ok(Number(attribute(chat, 'gen_ai.latency.e2e')) > 0);
  assert.deepEqual(chat?.attributes.find(({ key }) => key === 'gen_ai.request.temperature')?.value, {
    doubleValue: 1,
  });
  assert.deepEqual([chat?.traceId, chat?.parentSpanId, chat?.name], [trace, parent, 'chat test']);
  assert.ok(BigInt(chat!.endTimeUnixNano) > BigInt(chat!.startTimeUnixNano));
  assert.equal(attribute(chat, 'gen_ai.usage.output_tokens'), 3);
  assert.deepEqual(attribute(chat, 'gen_ai.response.finish_reasons'), ['length']);
  assert.match(String(attribute(chat, 'gen_ai.response.id')), /^chatcmpl-/);
  assert.equal(attribute(refused, 'error.type'), 'invalid_value');
  assert.notEqual(refused?.traceId, trace);
  assert.deepEqual(seen[0], { url: '/v1/traces', key: 'a=b' });
  assert.ok(!JSON.stringify(bodies).includes('secret'));
});

test('nothing is traced unless a collector is configured', () => {
  assert.equal(spanTarget({}), undefined);
  assert.equal(spanTarget({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://x', OTEL_SDK_DISABLED: 'true' }), undefined);
  const own = { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://x/own' };
  assert.equal(spanTarget(own)?.url, 'http://x/own');
});

test('a malformed traceparent counts as none', () => {
  assert.deepEqual(parentOf(`00-${trace}-${parent}-01`), { traceId: trace, spanId: parent, isSampled: true });
  for (const wrong of [
    '',
    'x',
    `ff-${trace}-${parent}-01`,
    `00-${'0'.repeat(32)}-${parent}-01`,
    `00-${trace}-1-01`,
    5,
  ]) {
    assert.equal(parentOf(wrong), undefined);
  }
});

test('a collector that is away costs its spans and a warning; the queue is bounded', async () => {
  const warnings: string[] = [];
  const logger = {
    info: () => {},
    error: () => {},
    warn: (_: object, message: string) => void warnings.push(message),
  };
  const spans = new RequestSpans(() => Promise.reject(new Error('away')), logger);
  const server = await testServer({}, { spans });
  for (let i = 0; i <= queuedSpansMax; i++) await server.app.inject('/health/live');
  await new Promise(setImmediate);
  await spans.flush();
  await spans.close();
  assert.deepEqual(warnings.map((text) => text.split(':')[0]).sort(), [
    'spans could not be sent',
    'spans were dropped',
  ]);
  await server.close();
});
