import { byteOfByteToken, bytesOfByteLevelToken } from './byte-alphabet.ts';
import { TokenizerError } from './errors.ts';
import { type Component, flatten } from './tokenizer-json.ts';

/** How a vocabulary's tokens become bytes, read from tokenizer.json's decoder. */
export interface DecodeRule {
  style: 'byte-level' | 'metaspace' | 'word-piece' | 'suffix';
  /** `<0xNN>` tokens are bytes. */
  byteFallback: boolean;
  /** A space at the very start of a sequence's text is dropped. */
  stripsFirstSpace: boolean;
  /** The mark of a word's start (`▁`), of a continuation (`##`) or of a word's end (`</w>`). */
  mark: string;
}

const metaspace = '\u2581';

/** @throws TokenizerError TOKENIZER_UNSUPPORTED for a decoder that cannot be applied token by token */
export function decodeRuleOf(decoder: Component | null | undefined): DecodeRule {
  const parts = flatten(decoder);
  const byType = new Map(parts.map((part) => [part.type, part]));
  const byteFallback = byType.has('ByteFallback');
  if (byType.has('ByteLevel'))
    return { style: 'byte-level', byteFallback, stripsFirstSpace: false, mark: '' };
  const meta = byType.get('Metaspace');
  if (meta) {
    const stripsFirstSpace = meta.prepend_scheme !== 'never' && meta.add_prefix_space !== false;
    const mark = typeof meta.replacement === 'string' ? meta.replacement : metaspace;
    return { style: 'metaspace', byteFallback, stripsFirstSpace, mark };
  }
  const pieces = byType.get('WordPiece');
  if (pieces) {
    const mark = typeof pieces.prefix === 'string' ? pieces.prefix : '##';
    return { style: 'word-piece', byteFallback, stripsFirstSpace: true, mark };
  }
  const suffix = byType.get('BPEDecoder');
  if (suffix) {
    const mark = typeof suffix.suffix === 'string' ? suffix.suffix : '</w>';
    return { style: 'suffix', byteFallback, stripsFirstSpace: false, mark };
  }
  const known = new Set(['Replace', 'ByteFallback', 'Fuse', 'Strip']);
  const unknown = parts.find((part) => !known.has(part.type));
  if (unknown || parts.length === 0) {
    const name = unknown?.type ?? 'none';
    throw new TokenizerError(
      'TOKENIZER_UNSUPPORTED',
      `tokenizer.json: decoder '${name}' is not supported; known: ByteLevel, Metaspace, WordPiece, BPEDecoder and sequences of Replace, ByteFallback, Fuse, Strip`,
    );
  }
  for (const part of parts) if (part.type === 'Replace') assertSpaceMark(part);
  const strip = byType.get('Strip');
  return {
    style: 'metaspace',
    byteFallback,
    stripsFirstSpace: strip?.content === ' ' && Number(strip.start) > 0,
    mark: metaspace,
  };
}

/** The only Replace that works token by token is the one from the metaspace to a space. */
function assertSpaceMark(part: Component): void {
  const pattern = (part.pattern ?? {}) as { String?: unknown };
  if (pattern.String === metaspace && part.content === ' ') return;
  throw new TokenizerError(
    'TOKENIZER_UNSUPPORTED',
    `tokenizer.json: a decoder that replaces ${JSON.stringify(part.pattern)} is not supported; only '${metaspace}' by a space`,
  );
}

const encoder = new TextEncoder();

/** The bytes an ordinary token adds when appended to a text. */
export function bytesOfToken(token: string, rule: DecodeRule): Uint8Array {
  const byte = rule.byteFallback ? byteOfByteToken(token) : -1;
  if (byte >= 0) return Uint8Array.of(byte);
  switch (rule.style) {
    case 'byte-level':
      return bytesOfByteLevelToken(token) ?? encoder.encode(token);
    case 'metaspace':
      return encoder.encode(token.replaceAll(rule.mark, ' '));
    case 'word-piece':
      return encoder.encode(token.startsWith(rule.mark) ? token.slice(rule.mark.length) : ` ${token}`);
    case 'suffix':
      return encoder.encode(token.replaceAll(rule.mark, ' '));
  }
}
