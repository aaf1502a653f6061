import type { IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { CliError } from '../errors.ts';

/** Answers are short; a model that rambles is cut here. */
const maxTokens = 96;
const timeoutMs = 120_000;

/** Where the server listens, as this process knows it. */
export interface SelfTestAddress {
  host: string;
  port: number;
  /** It speaks TLS. */
  secure: boolean;
  apiKey: string | undefined;
}

/**
 * Proves that the server works as a client sees it: asks it one question over its own HTTP port and prints the answer as it streams.
 * @throws CliError `SELF_TEST_FAILED` with what went wrong
 */
export async function selfTest(address: SelfTestAddress, prompt: string): Promise<void> {
  const startMs = performance.now();
  const response = await post(address, {
    messages: [{ role: 'user', content: prompt }],
    max_tokens: maxTokens,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
  });
  if (response.statusCode !== 200) throw failed(await text(response));
  process.stdout.write(`> ${prompt}\n`);
  let tokens = 0;
  let pending = '';
  const decoder = new TextDecoder();
  for await (const chunk of response) {
    pending += decoder.decode(chunk as Buffer, { stream: true });
    const lines = pending.split('\n');
    pending = lines.pop() ?? '';
    for (const line of lines) {
      if (!line.startsWith('data: {')) continue;
      const event = JSON.parse(line.slice('data: '.length));
      if (event.error) throw failed(event.error.message);
      process.stdout.write(event.choices[0]?.delta?.content ?? '');
      tokens = event.usage?.completion_tokens ?? tokens;
    }
  }
  const seconds = (performance.now() - startMs) / 1000;
  process.stdout.write(`\n(${tokens} tokens in ${seconds.toFixed(2)} s; Ctrl-C stops the server)\n`);
}

async function post({ host, port, secure, apiKey }: SelfTestAddress, body: object): Promise<IncomingMessage> {
  const { request } = secure ? await import('node:https') : await import('node:http');
  const options = {
    method: 'POST',
    host: host === '0.0.0.0' || host === '::' ? 'localhost' : host,
    port,
    path: '/v1/chat/completions',
    headers: {
      'content-type': 'application/json',
      ...(apiKey ? { authorization: `Bearer ${apiKey}` } : {}),
    },
    // It is this very process, under whatever name its certificate has.
    rejectUnauthorized: false,
    signal: AbortSignal.timeout(timeoutMs),
  };
  return new Promise((resolve, reject) => {
    const asking = request(options, resolve);
    asking.on('error', (error) => reject(failed(error.message)));
    asking.end(JSON.stringify(body));
  });
}

function failed(detail: string): CliError {
  return new CliError('SELF_TEST_FAILED', `the self-test's request failed: ${detail.slice(0, 500)}`, {
    usage: false,
  });
}
