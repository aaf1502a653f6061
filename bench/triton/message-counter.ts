const headBytes = 5;

/** Counts whole gRPC messages over chunks, without a look into them. */
export class MessageCounter {
  messages = 0;
  #rest = 0;
  #head: Buffer = Buffer.alloc(0);

  add(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#rest > 0) {
        const taken = Math.min(this.#rest, chunk.length - at);
        this.#rest -= taken;
        at += taken;
        continue;
      }
      const missing = headBytes - this.#head.length;
      const part = chunk.subarray(at, at + missing);
      at += part.length;
      const head = this.#head.length === 0 ? part : Buffer.concat([this.#head, part]);
      if (head.length < headBytes) {
        this.#head = head;
        return;
      }
      this.#head = Buffer.alloc(0);
      this.#rest = head.readUInt32BE(1);
      this.messages++;
    }
  }
}

/** A message with gRPC's head in front. */
export function framed(message: Buffer): Buffer {
  const head = Buffer.alloc(headBytes);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}
