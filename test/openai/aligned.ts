import { post } from './inject.ts';
import type { TestServer } from './test-server.ts';

/**
 * A user message after which a scripted engine of `length` tokens begins its script at its beginning: the templated prompt is a multiple
 * of that. @param fields what else is in the prompt, as /tokenize takes it
 */
export async function alignedUserText(
  server: TestServer,
  length: number,
  fields: { before?: object[]; after?: object[]; [field: string]: unknown } = {},
): Promise<string> {
  const { before = [], after = [], ...others } = fields;
  for (let padding = 0; padding < length; padding++) {
    const text = 'x'.repeat(padding + 1);
    const messages = [...before, { role: 'user', content: text }, ...after];
    const { body } = await post(server, '/tokenize', { messages, ...others });
    if (body.count % length === 0) return text;
  }
  throw new Error('no padding aligns');
}
