import type { Span, SpanSender, SpanTarget } from './request-spans.ts';

/** Longest wait for a collector. */
const sendTimeoutMs = 10_000;

/** Sends spans as OTLP over HTTP, in its JSON form. */
export function otlpSender({ url, headers, serviceName }: SpanTarget, version: string): SpanSender {
  const resource = {
    attributes: [
      { key: 'service.name', value: { stringValue: serviceName } },
      { key: 'service.version', value: { stringValue: version } },
    ],
  };
  return async (spans: readonly Span[]) => {
    const scopeSpans = [{ scope: { name: 'nereid', version }, spans }];
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({ resourceSpans: [{ resource, scopeSpans }] }),
      signal: AbortSignal.timeout(sendTimeoutMs),
    });
    await response.arrayBuffer();
    if (!response.ok) throw new Error(`the collector answered ${response.status}`);
  };
}
