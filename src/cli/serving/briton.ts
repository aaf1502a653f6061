import { definite } from '../../base/errors.ts';
import type { ApiKeys } from '../../protocol/authentication.ts';
import type { RunningBriton } from '../../protocol/briton/server.ts';
import type { ClientBounds } from '../../protocol/client-bounds.ts';
import type { ServerMetrics } from '../../protocol/metrics.ts';
import type { ServedModel } from '../../protocol/served-model.ts';
import type { TlsMaterial } from '../../protocol/tls.ts';

/** What a front end brings to Briton's port. */
export interface BritonSide {
  models: readonly ServedModel[];
  keys?: ApiKeys;
  metrics: ServerMetrics;
  readiness: () => Readonly<Record<string, boolean>>;
  bounds: ClientBounds;
}

/** Where it listens, and the folder of its schemas. */
export interface BritonAddress {
  host: string;
  port: number;
  schemas?: string | undefined;
}

/** Starts Briton's gRPC port over a front end's first model, with the same keys and certificates. @throws Error `EADDRINUSE` and the like */
export async function openBriton(
  { models, keys, metrics, readiness, bounds }: BritonSide,
  { host, port, schemas }: BritonAddress,
  tls: TlsMaterial | undefined,
): Promise<RunningBriton> {
  const model = definite(models[0], 'a model (the options were checked)');
  const { startBriton } = await import('../../protocol/briton/server.ts');
  const observer = metrics.observer(model.name);
  return startBriton({ model, keys, observer, host, port, schemas, readiness, tls, bounds });
}
