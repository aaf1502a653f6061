import { hash32 } from '../../base/random.ts';
import type { GenerationRequest } from '../requests/request.ts';
import type { TokenSource } from './kv-cache.ts';

/** What a request may share prefixes under: only requests with the same key share any. */
export function prefixKeyOf({
  cacheSalt,
  adapter,
}: Pick<GenerationRequest, 'cacheSalt' | 'adapter'>): string {
  // By digest, not by name: an adapter that was loaded anew under its name has other KV.
  if (adapter) return `adapter ${adapter.digest} ${cacheSalt ?? ''}`;
  return cacheSalt === undefined ? '' : `salt ${cacheSalt}`;
}

/** The hash of no tokens, for what may share a prefix under `prefixKey`. */
export function rootHash(prefixKey: string): number {
  const words = Array.from(prefixKey, (letter) => letter.codePointAt(0) ?? 0);
  return join(hash32(1, ...words), hash32(2, ...words));
}

/**
 * The hash of a prefix that is `parent`'s tokens and then `tokens` [from, from + count): a safe integer of 53 bits. Front ends compute the same
 * over a prompt to see which engine has it (`routing/`).
 */
export function chunkHash(parent: number, tokens: TokenSource, from: number, count: number): number {
  let a = parent | 0;
  let b = (parent / 0x1_0000_0000) | 0;
  for (let position = from; position < from + count; position++) {
    const token = tokens.tokenAt(position);
    // Two multiplicative hashes that share their input and nothing else.
    a = Math.imul(a ^ token, 0x85ebca6b);
    a ^= a >>> 13;
    b = Math.imul(b ^ token, 0xc2b2ae35);
    b ^= b >>> 16;
  }
  return join(Math.imul(a ^ (a >>> 16), 0x9e3779b1), Math.imul(b ^ (b >>> 15), 0x27d4eb2f));
}

function join(low: number, high: number): number {
  return (high & 0x1f_ffff) * 0x1_0000_0000 + (low >>> 0);
}
