import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { SeededRandom } from '../../src/base/random.ts';

/** What a {@link FaultyLink} does to what passes. */
export interface LinkFaults {
  /** Chance of a cut at each piece, in the middle of whatever frame it lies in. */
  cut: number;
  /** Chance that a frame of the engine's comes twice. */
  twice: number;
  /** Longest delay of a piece in milliseconds. */
  delayMsMax: number;
}

const headerBytes = 4;
const pieceBytesMax = 200;

/** Stands between a front end's client and its engine and hands on bytes in pieces of any size, late, twice, or not at all. */
export class FaultyLink {
  readonly #server: Server;
  readonly #random: SeededRandom;
  readonly #faults: LinkFaults;
  readonly #enginePath: string;
  readonly #sockets = new Set<Socket>();
  cuts = 0;

  constructor(enginePath: string, seed: number, faults: LinkFaults) {
    this.#enginePath = enginePath;
    this.#random = new SeededRandom(seed);
    this.#faults = faults;
    this.#server = createServer((client) => this.#link(client));
  }

  /** From now on everything passes as it comes. */
  heal(): void {
    Object.assign(this.#faults, { cut: 0, twice: 0, delayMsMax: 0 });
  }

  async listen(path: string): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(path, resolve));
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #link(client: Socket): void {
    const engine = connect(this.#enginePath);
    const both = [client, engine];
    for (const socket of both) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#sockets.delete(socket);
        for (const other of both) other.destroy();
      });
    }
    void this.#carry(client, engine, false);
    void this.#carry(engine, client, true);
  }

  async #carry(from: Socket, to: Socket, mayRepeat: boolean): Promise<void> {
    let pending = Buffer.alloc(0);
    try {
      for await (const chunk of from) {
        pending = Buffer.concat([pending, chunk as Buffer]);
        for (;;) {
          if (pending.length < headerBytes) break;
          const end = headerBytes + pending.readUInt32LE(0);
          if (pending.length < end) break;
          const frame = pending.subarray(0, end);
          pending = pending.subarray(end);
          const times = mayRepeat && this.#random.next() < this.#faults.twice ? 2 : 1;
          for (let i = 0; i < times; i++) if (!(await this.#send(frame, to))) return;
        }
      }
    } catch {
      // Cut from the other side.
    }
  }

  /** @returns false after a cut */
  async #send(frame: Buffer, to: Socket): Promise<boolean> {
    for (let at = 0; at < frame.length; ) {
      const { cut, delayMsMax } = this.#faults;
      const size = cut > 0 ? 1 + this.#random.integer(pieceBytesMax) : frame.length;
      to.write(frame.subarray(at, at + size));
      at += size;
      if (this.#random.next() < cut) {
        this.cuts++;
        to.destroy();
        return false;
      }
      if (delayMsMax > 0) await sleep(this.#random.next() * delayMsMax);
    }
    return true;
  }
}
