/** Cases that we answer otherwise than tritonserver 2.51.0, with the reason. */

/** Its check counts inputs and lets these through to the model, or names the input that its hash map holds first. */
const better = [
  'generate batched: empty array',
  'generate batched: missing input',
  'infer batched: batch sizes differ',
  'infer batched: missing input',
];

/** Its unpacking makes nothing of a broken body and goes on with that. */
const brokenPacks = ['infer ident: deflate no deflate', 'infer ident: gzip cut', 'infer ident: gzip no gzip'];

/** Its HTTP port has no other protocol; and our router looks at the path first. */
const otherProtocols = [
  'DELETE /nothing',
  'GET /',
  'GET /V2/health/live',
  'GET /metrics',
  'GET /v1',
  'GET /v2/models/%zz/ready',
  'OPTIONS /nothing',
  'PATCH /nothing',
  'POST /nothing',
  'PUT /nothing',
];

/** Its maps are printed in the order of their hashes, and an ensemble's parameters once for each output. */
const otherOrder = ['GET /v2/models/maybe/config', 'infer maybe: both'];

/** Its configuration stays as it was where nothing but the version policy changes. */
const oldPolicies = ['all versions', 'two versions', 'a version', 'a version in a text'];

const reasons = new Map<string, string>([
  ...better.map((name) => [name, 'ours says which input is missing'] as const),
  ...brokenPacks.map((name) => [name, 'ours says that the body cannot be unpacked'] as const),
  ...otherProtocols.map((name) => [name, 'the port is shared with other protocols'] as const),
  ...oldPolicies.map((name) => [`configuration: ${name}, shown`, 'ours shows the new policy'] as const),
  ['configuration: parameters, shown', 'another order of the same members'],
  ...otherOrder.map((name) => [name, 'another order of the same members'] as const),
  ['infer ident: binary: bytes length too large', 'the same status and text as JSON'],
  ['infer ident: written: float exponents', 'other digits of the same number (the nearest instead of any)'],
  ['load single: unknown backend', 'the same text with the known backends behind it'],
  ['ModelStatistics of a version only', 'counts depend on what was asked before'],
  ['index after an unload', 'whether the last request is over by then'],
]);

/** Why a case is not compared, or undefined. */
export function differsBecause(name: string): string | undefined {
  return reasons.get(name);
}

/** Every case that is not compared. */
export const knownDifferences: readonly string[] = [...reasons.keys()];
