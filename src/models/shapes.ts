import type { Hyperparameters } from './hyperparameters.ts';

const rope = (theta: number, dimensions: number) => ({ theta, dimensions });

const llama3: Omit<Hyperparameters, 'layers' | 'width' | 'heads' | 'feedForwardWidth'> = {
  architecture: 'llama',
  kvHeads: 8,
  headDimension: 128,
  vocabularySize: 128_256,
  contextLength: 131_072,
  normEpsilon: 1e-5,
  // Without the stretching of Llama 3.1, which costs nothing and changes no shape.
  rope: rope(500_000, 128),
  tiedEmbeddings: false,
};

/** Well-known models' numbers by name, for engines whose weights are made up: what a benchmark of a shape needs. */
export const modelShapes: Readonly<Record<string, Hyperparameters>> = {
  'llama-3.2-1b': {
    ...llama3,
    ...{ layers: 16, width: 2048, heads: 32, headDimension: 64, feedForwardWidth: 8192 },
    rope: rope(500_000, 64),
    tiedEmbeddings: true,
  },
  'llama-3.1-8b': { ...llama3, layers: 32, width: 4096, heads: 32, feedForwardWidth: 14_336 },
  'llama-3.1-70b': { ...llama3, layers: 80, width: 8192, heads: 64, feedForwardWidth: 28_672 },
  'qwen3-8b': {
    ...{ architecture: 'qwen3', layers: 36, width: 4096, heads: 32, kvHeads: 8, headDimension: 128 },
    ...{ feedForwardWidth: 12_288, vocabularySize: 151_936, contextLength: 40_960, normEpsilon: 1e-6 },
    rope: rope(1_000_000, 128),
    tiedEmbeddings: false,
  },
};
