import { join } from 'node:path';
import { resolveModel } from '../../src/artifact/resolve-model.ts';
import { ensureEngine } from '../../src/artifact/resolver.ts';
import type { BuildDtype } from '../../src/builder/config.ts';
import { readEngine } from '../../src/builder/engine-folder.ts';
import type { Reporter } from '../../src/builder/reporter.ts';

const reporter: Reporter = { start() {}, advance() {}, finish() {}, note: (line) => console.error(line) };

/**
 * A catalogue model's GGUF file: as its source carries it, or the weights of the engine that `nereid build --dtype` makes of it.
 * @throws ArtifactError when no source answers
 */
export async function ensureGguf(name: string, dtype?: BuildDtype): Promise<string> {
  if (!dtype) {
    const model = await resolveModel(name, { reporter });
    if (model.kind !== 'gguf')
      throw new Error(`${name} came as ${model.kind} (${model.path}); this benchmark needs a .gguf`);
    return model.path;
  }
  const { folder } = await ensureEngine(name, { reporter, recipe: { dtype } });
  return join(folder, readEngine(folder).ranks[0] ?? '');
}
