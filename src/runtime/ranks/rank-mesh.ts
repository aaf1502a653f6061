import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { definite, messageOf, NereidError } from '../../base/errors.ts';
import { RuntimeError } from '../errors.ts';
import { addressText, listenAt, type RankAddress } from './address.ts';
import { introduce, type RankIdentity, welcome } from './handshake.ts';
import { RankLink } from './rank-link.ts';

/** How long a group may take to come together unless told otherwise: other hosts may have to build their engine first. */
export const joinTimeoutMsDefault = 600_000;
/** A connection that has not introduced itself by then is a stranger's. */
const handshakeTimeoutMs = 10_000;
/** Connections that introduce themselves at a time. */
const strangersMax = 128;
const retryMs = 100;

const addressSchema = z.union([
  z.object({ path: z.string().min(1).max(1000) }),
  z.object({ host: z.string().min(1).max(300), port: z.int().min(1).max(65_535) }),
]);
const rosterSchema = z.object({ addresses: z.array(addressSchema.nullable()).max(1000) });

/** How a rank finds the others. */
export interface MeshOptions {
  identity: RankIdentity;
  /** Where rank 0 listens. */
  leader: RankAddress;
  joinTimeoutMs?: number;
  /** A connection was refused: with another version, another engine, a wrong secret. Told to whoever reads logs. */
  onRefused?: (reason: string) => void;
}

/** A rank's connections to all other ranks of its group. */
export class RankMesh {
  readonly identity: RankIdentity;
  readonly #links = new Map<number, RankLink>();
  readonly #arrivals = new Set<() => void>();
  readonly #onRefused: (reason: string) => void;
  #server: Server | undefined;
  #strangers = 0;

  private constructor(options: MeshOptions) {
    this.identity = options.identity;
    this.#onRefused = options.onRefused ?? (() => {});
  }

  /**
   * Connects every rank with every other: all to the leader, which then tells who listens where.
   * @throws RuntimeError `RANK_REFUSED`, `RANK_LOST`, `RANKS_INCOMPLETE` when some do not come in time
   */
  static async join(options: MeshOptions): Promise<RankMesh> {
    const mesh = new RankMesh(options);
    const deadline = AbortSignal.timeout(options.joinTimeoutMs ?? joinTimeoutMsDefault);
    try {
      if (options.identity.rank === 0) await mesh.#lead(options.leader, deadline);
      else await mesh.#follow(options.leader, deadline);
    } catch (thrown) {
      mesh.close();
      throw thrown;
    }
    return mesh;
  }

  /** The connection to another rank. */
  link(rank: number): RankLink {
    return definite(this.#links.get(rank), `a link to rank ${rank}`);
  }

  /** All of them, by rank. */
  get links(): RankLink[] {
    return [...this.#links].sort(([a], [b]) => a - b).map(([, link]) => link);
  }

  /** Calls `listener` once any rank is lost. */
  onLost(listener: (reason: RuntimeError) => void): void {
    for (const link of this.links) link.onClosed(listener);
  }

  close(): void {
    this.#server?.close();
    for (const link of this.#links.values()) link.close();
  }

  async #lead(leader: RankAddress, deadline: AbortSignal): Promise<void> {
    await this.#listen(leader, () => true);
    await this.#allHere(1, deadline);
    const listening = this.links.map((link) => link.nextJson('listening'));
    const addresses = (await before(deadline, Promise.all(listening), 'to listen')).map((value) => {
      return checked(addressSchema, value);
    });
    for (const link of this.links) link.sendJson('roster', { addresses: [null, ...addresses] });
    const joined = Promise.all(this.links.map((link) => link.next('joined')));
    await before(deadline, joined, 'to connect with each other');
  }

  async #follow(leader: RankAddress, deadline: AbortSignal): Promise<void> {
    const { rank } = this.identity;
    const link = await this.#reach(leader, 0, deadline);
    const own =
      'path' in leader
        ? { path: `${leader.path}.${rank}` }
        : { host: definite(link.localAddress, 'an address'), port: 0 };
    // Ranks between the leader and this one are connected to, those behind connect here.
    const listening = await this.#listen(own, (other) => other > rank);
    link.sendJson('listening', listening);
    const value = await before(deadline, link.nextJson('roster'), 'to hear of the others');
    const { addresses } = checked(rosterSchema, value);
    for (let other = 1; other < rank; other++) {
      await this.#reach(definite(addresses[other], `the address of rank ${other}`), other, deadline);
    }
    await this.#allHere(rank + 1, deadline);
    link.send('joined', new Uint8Array(0));
  }

  async #listen(address: RankAddress, isWanted: (rank: number) => boolean): Promise<RankAddress> {
    const { ranks } = this.identity;
    const server = createServer((socket) => {
      void this.#accept(socket, (rank) => {
        return Number.isInteger(rank) && rank > 0 && rank < ranks && isWanted(rank) && !this.#links.has(rank);
      });
    });
    this.#server = server;
    try {
      return await listenAt(server, address);
    } catch (cause) {
      const problem = `rank ${this.identity.rank} cannot listen at ${addressText(address)}: ${messageOf(cause)}`;
      throw new RuntimeError('RANKS_INCOMPLETE', `${problem}; give another --leader`, { cause });
    }
  }

  async #accept(socket: Socket, isWanted: (rank: number) => boolean): Promise<void> {
    if (this.#strangers >= strangersMax) {
      socket.destroy();
      return;
    }
    this.#strangers++;
    const timer = setTimeout(() => socket.destroy(), handshakeTimeoutMs);
    const link = new RankLink(socket);
    try {
      const rank = await welcome(link, this.identity, isWanted);
      this.#links.set(rank, link);
      for (const arrived of this.#arrivals) arrived();
    } catch (thrown) {
      link.close();
      this.#onRefused(messageOf(thrown));
    } finally {
      clearTimeout(timer);
      this.#strangers--;
    }
  }

  /** Waits for all ranks from `first` on. */
  async #allHere(first: number, deadline: AbortSignal): Promise<void> {
    const { ranks } = this.identity;
    const missing = () =>
      Array.from({ length: ranks }, (_, rank) => rank).filter(
        (rank) => rank >= first && !this.#links.has(rank),
      );
    while (missing().length > 0) {
      await before(
        deadline,
        new Promise<void>((resolve) => {
          const arrived = (): void => {
            this.#arrivals.delete(arrived);
            resolve();
          };
          this.#arrivals.add(arrived);
        }),
        () => `to come (missing: rank ${missing().join(', ')} of ${ranks})`,
      );
    }
  }

  /** Connects to a rank that may not listen yet. A refusal is final. */
  async #reach(address: RankAddress, rank: number, deadline: AbortSignal): Promise<RankLink> {
    for (;;) {
      try {
        const link = new RankLink(await connected(address));
        await before(deadline, introduce(link, this.identity, rank), `to answer at ${addressText(address)}`);
        this.#links.set(rank, link);
        return link;
      } catch (thrown) {
        const isFinal = thrown instanceof NereidError && thrown.code !== 'RANK_LOST';
        if (isFinal) throw thrown;
        if (deadline.aborted) throw incomplete(`rank ${rank} to answer at ${addressText(address)}`);
        await sleep(retryMs);
      }
    }
  }
}

function connected(address: RankAddress): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(address);
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}

async function before<T>(
  deadline: AbortSignal,
  work: Promise<T>,
  forWhat: string | (() => string),
): Promise<T> {
  let stop: () => void = () => {};
  const late = new Promise<never>((_, reject) => {
    stop = () => reject(incomplete(`the other ranks ${typeof forWhat === 'string' ? forWhat : forWhat()}`));
    if (deadline.aborted) stop();
    else deadline.addEventListener('abort', stop);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    deadline.removeEventListener('abort', stop);
  }
}

function incomplete(forWhat: string): RuntimeError {
  const fix = 'start every rank with the same --world-size and --leader';
  return new RuntimeError('RANKS_INCOMPLETE', `waited in vain for ${forWhat} (joinTimeoutMs); ${fix}`);
}

function checked<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new RuntimeError(
    'RANK_MESSAGE_INVALID',
    `a rank sent an address that is none: ${result.error.message}`,
  );
}
