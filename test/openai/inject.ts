import assert from 'node:assert/strict';
import type { TestServer } from './test-server.ts';

/** An injected request's answer. */
export interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: bodies of many shapes, read field by field
  body: any;
  headers: Record<string, unknown>;
}

/** POSTs JSON without a socket. */
export async function post(server: TestServer, url: string, payload: object): Promise<Answer> {
  const response = await server.app.inject({ method: 'POST', url, payload });
  return { status: response.statusCode, body: response.json(), headers: response.headers };
}

/** Events of an SSE body, parsed; `[DONE]` as it is. */
export function eventsOf(body: string): unknown[] {
  assert.ok(body.endsWith('\n\n'));
  return body
    .slice(0, -2)
    .split('\n\n')
    .map((event) => {
      assert.ok(event.startsWith('data: '), event);
      const data = event.slice('data: '.length);
      return data === '[DONE]' ? data : JSON.parse(data);
    });
}
