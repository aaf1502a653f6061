import type { RunningModel } from './engines.ts';
import type { FrontEndPorts } from './front-end-slot.ts';
import type { ServeOptions } from './options.ts';

/** The ports that are open. */
export interface OpenPorts extends FrontEndPorts {
  metricsPort: number | undefined;
}

/** One line of what is served, one a port in the words that scripts wait for, and one to try each. */
export function announce(options: ServeOptions, models: readonly RunningModel[], ports: OpenPorts): void {
  const host = urlHost(options.host);
  const scheme = options.security.tls ? 'https' : 'http';
  const { port, grpcPort, britonPort, metricsPort } = ports;
  const base = `${scheme}://${host}:${port}`;
  const names = [...models.map(({ name }) => name), ...(options.repository?.folders ?? [])].join(', ');
  const lines: string[] = [];
  if (britonPort !== undefined)
    lines.push(`Serving ${models[0]?.name} on ${host}:${britonPort} (Briton gRPC)`);
  lines.push(`Serving ${names} on ${base} (OpenAI at ${base}/v1, Anthropic, KServe v2)`);
  if (grpcPort !== undefined) lines.push(`Started GRPCInferenceService at ${host}:${grpcPort}`);
  lines.push(`Started HTTPService at ${host}:${port}`);
  if (metricsPort !== undefined) lines.push(`Started Metrics Service at ${host}:${metricsPort}`);
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
  if (metricsPort !== undefined) lines.push(`  curl ${scheme}://${host}:${metricsPort}/metrics`);
  process.stderr.write(`${lines.join('\n')}\n`);
}

function urlHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
