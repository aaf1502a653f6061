import { definite } from '../../base/errors.ts';
import { RankSupervisor } from '../../runtime/process/rank-supervisor.ts';
import type { SupervisorEvent } from '../../runtime/process/supervisor.ts';
import { createProgress } from '../progress.ts';
import { engineConfiguration, prepareModels } from './engines.ts';
import { createLogger } from './log.ts';
import { type ServeOptions, threadsPerEngine } from './options.ts';
import { stopSignal } from './stop-signal.ts';

/**
 * `nereid serve --rank k` with k > 0: this host computes its part of the model, and rank 0 serves it. Resolves when told to stop.
 * @throws CliError, or a NereidError of the layer that could not start
 */
export async function serveRank(options: ServeOptions): Promise<void> {
  const logger = createLogger(options);
  const stop = stopSignal();
  const [model] = await prepareModels(options, createProgress(), stop.starting);
  const threads = threadsPerEngine(options.threads, 1);
  const configuration = engineConfiguration(definite(model, 'a model'), options, { threads, memoryShare: 1 });
  const onEvent = (event: SupervisorEvent): void => {
    logger[event.event === 'started' ? 'info' : 'error'](event, `rank ${event.event}`);
  };
  const stepDeadlineMs = options.stepTimeoutSeconds * 1000;
  process.stderr.write(`Rank ${options.rank} of ${options.worldSize} joins ${options.leader}\n`);
  // No front end connects here.
  const supervisor = new RankSupervisor({ ...configuration, socketPath: '' }, { onEvent, stepDeadlineMs });
  const running = supervisor.start().then(() => {
    process.stderr.write(`Rank ${options.rank} is ready\n`);
    return stop.wait();
  });
  try {
    await Promise.race([running, stop.wait()]);
  } finally {
    await supervisor.close();
  }
}
