import type { ServerCredentials } from '@grpc/grpc-js';
import { assert } from '../../base/errors.ts';
import type { RunningBriton } from '../../protocol/briton/server.ts';
import type { FrontEnd } from './front-end.ts';

/**
 * Starts Briton's gRPC port over the front end's first model, with the same keys.
 * @param frontEnd undefined where several processes share the HTTP port, which options refuse
 * @param credentials absent: plain text
 * @throws what grpc-js says of the port
 */
export async function listenBriton(
  host: string,
  port: number,
  frontEnd: FrontEnd | undefined,
  readiness: () => Readonly<Record<string, boolean>>,
  credentials: ServerCredentials | undefined,
): Promise<RunningBriton> {
  const model = frontEnd?.models[0];
  assert(frontEnd && model, 'one front end, which has a model');
  const { startBriton } = await import('../../protocol/briton/server.ts');
  const { keys, metrics } = frontEnd;
  const observer = metrics.observer(model.name);
  const briton = await startBriton({ model, keys, observer, host, port, readiness, credentials });
  process.stderr.write(`Serving ${model.name} on ${host}:${briton.port} (Briton gRPC)\n`);
  return briton;
}
