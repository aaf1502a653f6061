import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { definite } from '../../base/errors.ts';
import type { Backend, BackendContext } from '../backend.ts';
import { instanceCount } from '../config/complete.ts';
import { RepositoryError } from '../errors.ts';
import type { Execution } from '../execution.ts';
import { NodeInstance } from './instance.ts';

const defaultFile = 'model.js';

/** How often one instance is started again after its thread died, till the model is loaded anew. */
export const restartsMax = 100;

/** Batches that wait in an instance's own thread, where nothing can tell: so the thread need not wait for the next one. */
const aheadMax = 15;

/**
 * Models in JavaScript: `1/model.js` exports a class with `initialize`, `execute` and `finalize`; the answer to Triton's Python backend.
 * Each instance is a worker thread, so it can neither block the server nor outlive its model.
 * @throws RepositoryError when the file is missing or does not load
 */
export async function load(context: BackendContext): Promise<Backend> {
  const { config, name, version, versionFolder } = context;
  const modelFile = join(versionFolder, config.default_model_filename || defaultFile);
  if (!existsSync(modelFile)) {
    throw new RepositoryError('INVALID_ARGUMENT', `failed to load model '${name}': there is no ${modelFile}`);
  }
  const count = Math.max(1, instanceCount(config));
  const instances: NodeInstance[] = [];
  let isClosed = false;
  const close = async (): Promise<void> => {
    isClosed = true;
    await Promise.all(instances.map((instance) => instance.close()));
  };
  try {
    for (let instance = 0; instance < count; instance++) {
      const data = { modelFile, modelName: name, version, config, instance };
      instances.push(await NodeInstance.start(context, data));
    }
  } catch (thrown) {
    await close();
    throw thrown;
  }
  let restarts = 0;
  const starting = new Map<number, Promise<NodeInstance>>();
  /** Another thread for one that died; all batches that come meanwhile wait for the same one. */
  const restart = (index: number): Promise<NodeInstance> => {
    const known = starting.get(index);
    if (known) return known;
    restarts++;
    context.logger.warn(
      { model: name, instance: index },
      'the thread of this instance died; starting another',
    );
    const data = { modelFile, modelName: name, version, config, instance: index };
    const started = NodeInstance.start(context, data)
      .then(async (instance) => {
        instances[index] = instance;
        // The model may have been unloaded meanwhile.
        if (isClosed) await instance.close();
        return instance;
      })
      .finally(() => starting.delete(index));
    starting.set(index, started);
    return started;
  };
  const execute = (batch: readonly Execution[], index: number): Promise<void> => {
    const instance = definite(instances[index], `instance ${index} of ${name}`);
    const isRestarted = instance.isDead && restarts < restartsMax;
    if (!isRestarted && !starting.has(index)) return instance.execute(batch);
    return restart(index).then((other) => other.execute(batch.filter((execution) => !execution.isOver)));
  };
  return {
    kind: 'instanced',
    instances: count,
    aheadMax,
    execute,
    close,
  };
}
