import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Backend, BackendContext } from '../backend.ts';
import { instanceCount } from '../config/complete.ts';
import { RepositoryError } from '../errors.ts';
import { NodeInstance } from './instance.ts';

const defaultFile = 'model.js';

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
  const close = async (): Promise<void> => {
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
  return {
    kind: 'instanced',
    instances: count,
    execute: (batch, instance) => instances[instance]?.execute(batch),
    close,
  };
}
