import { basename } from 'node:path';

/** A model that a benchmark runs on. */
export interface BenchModel {
  name: string;
  /** A `.gguf` file. */
  path: string;
}

/**
 * The models to measure: the given files, else the catalogue's SmolLM2-135M-Instruct as its source carries it (Q4_1), and the same
 * requantized to Q8_0 by our builder.
 * @param list comma-separated paths
 */
export async function benchModels(list: string | undefined): Promise<BenchModel[]> {
  if (list) return list.split(',').map((path) => ({ name: basename(path), path }));
  const { ensureGguf } = await import('./ensure-gguf.ts');
  return [
    { name: 'SmolLM2-135M-Instruct Q4_1', path: await ensureGguf('smollm2-135m-instruct') },
    { name: 'SmolLM2-135M-Instruct Q8_0', path: await ensureGguf('smollm2-135m-instruct', 'q8_0') },
  ];
}
