/** Cases that we answer otherwise than tritonserver 2.51.0, with the reason. */

/** Its check counts inputs and lets these through to the model, or names the input that its hash map holds first. */
const better = [
  'generate batched: empty array',
  'generate batched: missing input',
  'infer batched: batch sizes differ',
  'infer batched: missing input',
];

/** The model `fail` and errors among the answers of `repeat` need a backend that can fail. */
const needFailingModel = [
  'RepositoryIndex {"ready":true}',
  'RepositoryIndex {}',
  'config after an unload',
  'generate fail: failing',
  'generate_stream fail: failing',
  'generate_stream repeat: error first',
  'generate_stream repeat: error later',
  'index',
  'index after an unload',
  'index of a repository',
  'index ready',
  'infer fail: after an unload',
  'infer fail: failing model',
  'infer fail: failing model with id',
  'infer fail: raw body',
  'infer: failing',
  'load again',
  'metadata after an unload',
  'ready after a load',
  'statistics after an unload',
  'stream: error among',
  'stream: error among, strict',
  'stream: error first, then another request',
  'stream: failing',
  'stream: failing, strict',
];

/** The same status and text with JSON's content type. */
const otherTypes = ['infer ident: binary: bytes length too large'];

const reasons = new Map<string, string>([
  ...better.map((name) => [name, 'ours says which input is missing'] as const),
  ...needFailingModel.map((name) => [name, 'needs a model that fails'] as const),
  ...otherTypes.map((name) => [name, 'another content type'] as const),
]);

/** Why a case is not compared, or undefined. */
export function differsBecause(name: string): string | undefined {
  return reasons.get(name);
}

/** Every case that is not compared. */
export const knownDifferences: readonly string[] = [...reasons.keys()];
