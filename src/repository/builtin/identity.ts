import type { Backend, BackendContext } from '../backend.ts';
import { instanceCount, parameterText } from '../config/complete.ts';
import { RepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import { renamed } from '../tensor.ts';

/** How long an execution may be told to take. */
const executeDelayMsMax = 60_000;

/**
 * Triton's `identity` backend: each `INPUT<suffix>` (or the i-th input) comes back as the `OUTPUT<suffix>` (or the i-th output). The
 * parameter `execute_delay_ms` makes an execution take that long.
 * @throws RepositoryError INVALID_ARGUMENT
 */
export async function load({ config }: BackendContext): Promise<Backend> {
  const delayMs = Number(parameterText(config, 'execute_delay_ms') ?? 0);
  if (!(delayMs >= 0 && delayMs <= executeDelayMsMax)) {
    const message = `execute_delay_ms of ${config.name} must be 0 to ${executeDelayMsMax}`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  const outputOf = new Map(
    config.input.map(({ name }, index) => {
      const sameSuffix = name.replace(/^INPUT/, 'OUTPUT');
      const found = config.output.find((output) => output.name === sameSuffix) ?? config.output[index];
      return [name, found?.name] as const;
    }),
  );
  const answer = (execution: Execution): void => {
    execution.inputsReady();
    const outputs = execution.request.inputs.flatMap((input) => {
      const name = outputOf.get(input.name);
      return name === undefined ? [] : [renamed(input, name)];
    });
    execution.computed();
    execution.respond({ outputs }, true);
  };
  return {
    kind: 'instanced',
    instances: Math.max(1, instanceCount(config)),
    execute: (batch) => {
      if (delayMs === 0) {
        for (const execution of batch) answer(execution);
        return undefined;
      }
      return new Promise((resolve) => {
        setTimeout(() => {
          for (const execution of batch) answer(execution);
          resolve();
        }, delayMs);
      });
    },
    close: async () => {},
  };
}
