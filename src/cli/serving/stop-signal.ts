import { CliError, exitCodes } from '../errors.ts';

/** Ctrl-C and SIGTERM: the first asks to stop, the second ends the process at once. */
export function stopSignal(): { readonly requested: boolean; starting: AbortSignal; wait(): Promise<void> } {
  const controller = new AbortController();
  let resolve: () => void = () => {};
  const waiting = new Promise<void>((done) => {
    resolve = done;
  });
  const onSignal = (): void => {
    if (controller.signal.aborted) process.exit(exitCodes.interrupted);
    controller.abort(new CliError('INTERRUPTED', 'interrupted', { usage: false }));
    resolve();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return {
    get requested() {
      return controller.signal.aborted;
    },
    starting: controller.signal,
    wait: () => waiting,
  };
}
