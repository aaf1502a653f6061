/**
 * Byte-level BPE writes each of the 256 bytes as one printable character (GPT-2's table): printable Latin-1 stands for itself, the
 * other 68 bytes follow from U+0100 on, in order.
 */
function buildAlphabet(): string[] {
  const characters: string[] = [];
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    characters.push(String.fromCharCode(printable ? byte : next++));
  }
  return characters;
}

/** The character that stands for each byte. */
export const byteCharacters: readonly string[] = buildAlphabet();

/** The byte of each character code below 0x144, −1 where there is none. */
const byteOfCharacter = new Int16Array(0x144).fill(-1);
for (const [byte, character] of byteCharacters.entries()) byteOfCharacter[character.charCodeAt(0)] = byte;

/** The bytes a byte-level token stands for, or undefined if a character is not of the alphabet. */
export function bytesOfByteLevelToken(token: string): Uint8Array | undefined {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = byteOfCharacter[token.charCodeAt(i)] ?? -1;
    if (byte < 0) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}

/** The byte-level spelling of bytes. */
export function byteLevelText(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byteCharacters[byte];
  return text;
}

/** The byte of a SentencePiece byte token (`<0x0A>`), or −1. */
export function byteOfByteToken(token: string): number {
  return /^<0x[0-9A-Fa-f]{2}>$/.test(token) ? Number.parseInt(token.slice(3, 5), 16) : -1;
}

/** SentencePiece's spelling of a byte as a token. */
export function byteTokenName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
}
