import { assert } from '../../base/errors.ts';
import type { RunningBriton } from '../../protocol/briton/server.ts';
import type { FrontEnd } from './front-end.ts';
import type { ServeOptions } from './options.ts';

/**
 * Starts Briton's gRPC port over the first model, if it was asked for.
 * @param frontEnd undefined where several processes share the HTTP port
 * @throws what grpc-js says of the port
 */
export async function listenBriton(
  options: ServeOptions,
  frontEnd: FrontEnd | undefined,
  readiness: () => Readonly<Record<string, boolean>>,
): Promise<RunningBriton | undefined> {
  const { host, britonPort: port, apiKeys } = options;
  if (port === undefined) return undefined;
  const model = frontEnd?.models[0];
  assert(frontEnd && model, 'one front end, which has a model');
  const { startBriton } = await import('../../protocol/briton/server.ts');
  const observer = frontEnd.metrics.observer(model.name);
  const briton = await startBriton({ model, apiKeys, observer, host, port, readiness });
  process.stderr.write(`Serving ${model.name} on ${host}:${briton.port} (Briton gRPC)\n`);
  return briton;
}
