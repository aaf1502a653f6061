import { type Collective, columnsOf, placeColumns } from '../../device/collective/collective.ts';
import { collectiveTimeoutMsDefault } from '../../device/collective/shared-memory.ts';
import { DeviceError } from '../../device/errors.ts';
import type { RankLink } from './rank-link.ts';

const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** A group whose ranks lie on several hosts: everyone sends everyone else its values over the ranks' own connections. */
export class LinkCollective implements Collective {
  readonly rank: number;
  readonly ranks: number;
  readonly #links: readonly (RankLink | undefined)[];
  readonly #timeoutMs: number;

  /** @param links to each rank of the group in order; undefined at this rank's own place */
  constructor(
    rank: number,
    links: readonly (RankLink | undefined)[],
    timeoutMs = collectiveTimeoutMsDefault,
  ) {
    this.rank = rank;
    this.#timeoutMs = timeoutMs;
    this.ranks = links.length;
    this.#links = links;
  }

  async allReduce(values: Float32Array): Promise<void> {
    const all = await this.#exchange(values, () => values.length);
    values.fill(0);
    for (const part of all) {
      for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) + (part[i] as number);
    }
  }

  async allGather(own: Float32Array, widths: readonly number[], joined: Float32Array): Promise<void> {
    const rows = own.length / (widths[this.rank] ?? 1);
    const all = await this.#exchange(own, (rank) => rows * (widths[rank] ?? 0));
    for (const [rank, part] of all.entries()) placeColumns(part, 0, columnsOf(widths, rank), joined);
  }

  close(): void {}

  /** @returns every rank's values, in rank order */
  async #exchange(values: Float32Array, lengthOf: (rank: number) => number): Promise<Float32Array[]> {
    // What is sent must not change until it is on its way, and sums are made in place.
    const own = values.slice();
    for (const link of this.#links) link?.send('exchange', bytesOf(own));
    const received = Promise.all(
      this.#links.map(async (link, rank) => {
        if (!link) return own;
        const body = await link.next('exchange');
        if (body.byteLength === lengthOf(rank) * Float32Array.BYTES_PER_ELEMENT)
          return new Float32Array(body.buffer, body.byteOffset, lengthOf(rank));
        const problem = `rank ${rank} sent ${body.byteLength} bytes instead of ${lengthOf(rank) * 4}`;
        throw new DeviceError(
          'DEVICE_FAILED',
          `${problem}: the ranks are out of step, and the group restarts`,
        );
      }),
    );
    return withDeadline(received, this.#timeoutMs);
  }
}

async function withDeadline<T>(received: Promise<T>, timeoutMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const problem = `another rank did not come to an exchange within ${timeoutMs} ms (collectiveTimeoutMs)`;
      reject(new DeviceError('DEVICE_FAILED', `${problem}: it hangs, and the group restarts`));
    }, timeoutMs);
  });
  try {
    return await Promise.race([received, late]);
  } finally {
    clearTimeout(timer);
  }
}
