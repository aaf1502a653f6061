/** Headers for a collector, as OpenTelemetry's environment variables write them: `name=value,…`, values URL-encoded. */
export function otlpHeaders(env: NodeJS.ProcessEnv, signal: 'TRACES' | 'METRICS'): Record<string, string> {
  const text = env[`OTEL_EXPORTER_OTLP_${signal}_HEADERS`] ?? env.OTEL_EXPORTER_OTLP_HEADERS ?? '';
  const pairs = text
    .split(',')
    .map((pair) => pair.split('='))
    .filter(([name, value]) => name && value)
    .map(([name, ...value]) => [String(name).trim(), decoded(value.join('=').trim())]);
  return Object.fromEntries(pairs);
}

/** What is no URL encoding is meant as it is. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
