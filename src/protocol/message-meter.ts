/** A gRPC message on the wire: a flag (1: packed), its length in 4 bytes, its bytes. */
const prefixBytes = 5;

/** Follows the messages of one call as their bytes come, without keeping any. */
export class MessageMeter {
  readonly #prefix = Buffer.alloc(prefixBytes);
  /** Bytes of the current message that are here, prefix included; 0 between two messages. */
  partialBytes = 0;
  /** Bytes of the current message in all, prefix included; unknown (0) while its prefix is not here. */
  length = 0;
  /** Messages that are here as a whole. */
  count = 0;

  /** The next bytes of the call. */
  take(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.partialBytes < prefixBytes) {
        this.#prefix[this.partialBytes++] = chunk[at++] as number;
        if (this.partialBytes < prefixBytes) continue;
        this.length = prefixBytes + this.#prefix.readUInt32BE(1);
      } else {
        const taken = Math.min(this.length - this.partialBytes, chunk.length - at);
        this.partialBytes += taken;
        at += taken;
      }
      if (this.partialBytes < this.length) continue;
      this.count++;
      this.partialBytes = 0;
      this.length = 0;
    }
  }
}
