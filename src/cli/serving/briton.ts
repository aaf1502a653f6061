import type { RunningBriton } from '../../protocol/briton/server.ts';
import { CliError } from '../errors.ts';
import type { FrontEnd } from './front-end.ts';
import type { ServeOptions } from './options.ts';
import { portError } from './ports.ts';
import type { Security } from './security.ts';

/**
 * Starts Briton's gRPC port over the front end's first model, with the same keys and certificates, if it was asked for.
 * @param frontEnd undefined where several processes share the HTTP port, which options refuse
 * @throws CliError PORT_IN_USE, PORT_UNAVAILABLE; CLI_VALUE_INVALID where only a model repository is served
 */
export async function listenBriton(
  { host, britonPort: port }: ServeOptions,
  { tls }: Security,
  frontEnd: FrontEnd | undefined,
): Promise<RunningBriton | undefined> {
  if (port === undefined) return undefined;
  const model = frontEnd?.models[0];
  if (!frontEnd || !model)
    throw new CliError('CLI_VALUE_INVALID', '--briton-port serves a model; name one on the command line');
  const { startBriton } = await import('../../protocol/briton/server.ts');
  const { keys, metrics, readiness, bounds } = frontEnd;
  const observer = metrics.observer(model.name);
  const briton = await startBriton({ model, keys, observer, host, port, readiness, tls, bounds }).catch(
    (thrown: unknown) => {
      throw portError(thrown, '--briton-port', port);
    },
  );
  process.stderr.write(`Serving ${model.name} on ${host}:${briton.port} (Briton gRPC)\n`);
  return briton;
}
