/**
 * How many bytes at the end of `bytes[0 … length)` are the start of a UTF-8 character that more bytes may complete: 0 to 3.
 * Bytes that no continuation could make valid (an overlong form, a surrogate, a stray continuation) count 0.
 */
export function incompleteTailLength(bytes: Uint8Array, length: number): number {
  for (let back = 1; back <= 3 && back <= length; back++) {
    const lead = bytes[length - back] as number;
    if ((lead & 0xc0) === 0x80) continue;
    const needed =
      lead >= 0xf0 && lead <= 0xf4
        ? 4
        : lead >= 0xe0 && lead <= 0xef
          ? 3
          : lead >= 0xc2 && lead <= 0xdf
            ? 2
            : 0;
    if (back >= needed) return 0;
    if (back >= 2 && !secondFits(lead, bytes[length - back + 1] as number)) return 0;
    return back;
  }
  return 0;
}

/** Whether `second` may follow `lead` (Unicode's table 3-7, well-formed UTF-8). */
function secondFits(lead: number, second: number): boolean {
  if (lead === 0xe0) return second >= 0xa0;
  if (lead === 0xed) return second <= 0x9f;
  if (lead === 0xf0) return second >= 0x90;
  if (lead === 0xf4) return second <= 0x8f;
  return true;
}

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const lenient = new TextDecoder('utf-8', { ignoreBOM: true });

/** The text of bytes that are valid UTF-8 by themselves; undefined otherwise. */
export function validText(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

/** The text of any bytes: each maximal invalid stretch becomes U+FFFD (the WHATWG rule). */
export function lenientText(bytes: Uint8Array): string {
  return lenient.decode(bytes);
}

/** Replaces lone surrogates by U+FFFD, as UTF-8 encoding would. */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, '\ufffd');
}
