import { definite } from '../../base/errors.ts';
import type { RunningBriton } from '../../protocol/briton/server.ts';
import type { TlsMaterial } from '../../protocol/tls.ts';
import type { FrontEnd } from './front-end.ts';

/**
 * Starts Briton's gRPC port over a front end's first model, with the same keys and certificates.
 * @throws Error `EADDRINUSE` and the like
 */
export async function openBriton(
  { models, keys, metrics, readiness }: Pick<FrontEnd, 'models' | 'keys' | 'metrics' | 'readiness'>,
  { host, port }: { host: string; port: number },
  tls: TlsMaterial | undefined,
): Promise<RunningBriton> {
  const model = definite(models[0], 'a model (the options were checked)');
  const { startBriton } = await import('../../protocol/briton/server.ts');
  const observer = metrics.observer(model.name);
  return startBriton({ model, keys, observer, host, port, readiness, tls });
}
