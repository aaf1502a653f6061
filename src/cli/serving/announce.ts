import type { RunningModel } from './engines.ts';
import type { ServeOptions } from './options.ts';

/** The ports that are open. */
export interface OpenPorts {
  http: number;
  grpc: number | undefined;
  metrics: number | undefined;
}

/** One line of what is served, one a port in the words that scripts wait for, and one to try each. */
export function announce(options: ServeOptions, models: readonly RunningModel[], ports: OpenPorts): void {
  const host = urlHost(options.host);
  const scheme = options.security.tls ? 'https' : 'http';
  const base = `${scheme}://${host}:${ports.http}`;
  const names = [...models.map(({ name }) => name), ...(options.repository?.folders ?? [])].join(', ');
  const lines = [`Serving ${names} on ${base} (OpenAI at ${base}/v1, Anthropic, KServe v2)`];
  if (ports.grpc !== undefined) lines.push(`Started GRPCInferenceService at ${host}:${ports.grpc}`);
  lines.push(`Started HTTPService at ${host}:${ports.http}`);
  if (ports.metrics !== undefined) lines.push(`Started Metrics Service at ${host}:${ports.metrics}`);
  const json = "-H 'content-type: application/json' -d";
  if (models.length > 0) {
    lines.push(
      `  curl ${base}/v1/chat/completions ${json} '{"messages":[{"role":"user","content":"Hello"}]}'`,
    );
  }
  if (models.length > 0 && !options.repository) {
    lines.push(`  curl ${base}/v2/models/ensemble/generate -d '{"text_input":"Hello","max_tokens":16}'`);
  }
  if (options.repository) lines.push(`  curl -X POST ${base}/v2/repository/index`);
  if (ports.metrics !== undefined) lines.push(`  curl ${scheme}://${host}:${ports.metrics}/metrics`);
  process.stderr.write(`${lines.join('\n')}\n`);
}

function urlHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
