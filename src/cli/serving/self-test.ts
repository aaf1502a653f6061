import { CliError } from '../errors.ts';

/** Answers are short; a model that rambles is cut here. */
const maxTokens = 96;
const timeoutMs = 120_000;

/**
 * Proves that the server works as a client sees it: asks it one question over its own HTTP port and prints the answer as it streams.
 * @throws CliError `SELF_TEST_FAILED` with what went wrong
 */
export async function selfTest(
  address: { host: string; port: number; apiKey: string | undefined },
  prompt: string,
): Promise<void> {
  const startMs = performance.now();
  const { port, apiKey } = address;
  const host = address.host === '0.0.0.0' || address.host === '::' ? 'localhost' : address.host;
  const response = await fetch(
    `http://${host.includes(':') ? `[${host}]` : host}:${port}/v1/chat/completions`,
    {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(apiKey ? { authorization: `Bearer ${apiKey}` } : {}),
      },
      body: JSON.stringify({
        messages: [{ role: 'user', content: prompt }],
        max_tokens: maxTokens,
        temperature: 0,
        stream: true,
        stream_options: { include_usage: true },
      }),
      signal: AbortSignal.timeout(timeoutMs),
    },
  );
  if (!response.ok || !response.body) throw failed(await response.text());
  process.stdout.write(`> ${prompt}\n`);
  let tokens = 0;
  let pending = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body) {
    pending += decoder.decode(chunk as Uint8Array, { stream: true });
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

function failed(detail: string): CliError {
  return new CliError('SELF_TEST_FAILED', `the self-test's request failed: ${detail.slice(0, 500)}`, {
    usage: false,
  });
}
