import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { definite, messageOf, NereidError } from '../../base/errors.ts';
import { makeTemporaryFolder, removeTemporaryFolder } from '../../base/temporary-folder.ts';
import { createRegion, removeRegion, sweepRegions } from '../../device/collective/shared-region.ts';
import type { Parallelism } from '../../models/partition.ts';
import { RuntimeError } from '../errors.ts';
import type { RankAddress } from '../ranks/address.ts';
import { EngineChild } from './engine-child.ts';
import type { EngineProcessConfiguration } from './engine-process-messages.ts';
import { pingIntervalMs } from './liveness.ts';

/** When one rank fails its peers do, too: how long is waited for the one that knows why. */
const causeGraceMs = 150;
const socketName = 'ranks.sock';
/** A rank that has answered lately. */
const answeredMs = 2 * pingIntervalMs;
/** The supervisor's deadline comes first. */
const startTimeoutMs = 24 * 60 * 60 * 1000;

/** An engine as a group of processes on this host, one a rank. None outlives another. */
export class EngineGroup {
  readonly #ranks: readonly EngineChild[];
  readonly #regions: readonly string[];
  readonly #folder: string;
  readonly #onFailed: (error: unknown) => void;
  readonly #failures: unknown[] = [];
  #isEnding = false;

  /** @param onFailed called once, when any rank failed; all are dead then */
  constructor(
    configuration: EngineProcessConfiguration,
    parallelism: Parallelism,
    onFailed: (error: unknown) => void,
  ) {
    const { tensor, pipeline } = parallelism;
    this.#onFailed = onFailed;
    this.#folder = makeTemporaryFolder('ranks', socketName);
    sweepRegions();
    const token = randomBytes(8).toString('hex');
    this.#regions =
      tensor > 1
        ? Array.from({ length: pipeline }, (_, stage) => createRegion(tensor, `${token}-${stage}`))
        : [];
    const secret = randomBytes(32).toString('hex');
    const leader = leaderAddress(this.#folder, token);
    this.#ranks = Array.from({ length: tensor * pipeline }, (_, rank) => {
      const seat = { rank, parallelism, leader, secret, regions: [...this.#regions] };
      return new EngineChild({ ...configuration, group: undefined, seat }, startTimeoutMs);
    });
    for (const rank of this.#ranks) {
      rank.ready.catch((thrown: unknown) => this.#failed(thrown));
      void rank.gone.then((detail) => this.#failed(this.#lost(rank, detail)));
    }
  }

  /** Resolves once every rank is ready. A rank that cannot start shows by `onFailed`. */
  async whenReady(): Promise<void> {
    await Promise.all(this.#ranks.map((rank) => rank.ready));
    // Every rank has mapped it.
    this.#removeRegions();
  }

  /** Asks every rank to show that it lives. @returns whether all have done so lately, and whether the engine is in a step */
  ping(): { alive: boolean; busy: boolean } {
    const silences = this.#ranks.map((rank) => rank.ping());
    return {
      alive: silences.every((silentMs) => silentMs < answeredMs),
      busy: definite(this.#ranks[0], 'rank 0').busy,
    };
  }

  /** Kills what is left and removes what the group shares. */
  end(): void {
    this.#isEnding = true;
    for (const rank of this.#ranks) rank.kill();
    this.#removeRegions();
    removeTemporaryFolder(this.#folder);
  }

  #lost(rank: EngineChild, detail: string): RuntimeError {
    const problem = `rank ${this.#ranks.indexOf(rank)} of ${this.#ranks.length} ended (${detail})`;
    return new RuntimeError('ENGINE_FAILED', `${problem}; all ranks are restarted`);
  }

  #failed(error: unknown): void {
    if (this.#isEnding) return;
    this.#failures.push(error);
    if (this.#failures.length > 1) return;
    setTimeout(() => {
      this.end();
      this.#onFailed(causeOf(this.#failures));
    }, causeGraceMs);
  }

  #removeRegions(): void {
    for (const path of this.#regions) removeRegion(path);
  }
}

/** A rank that lost another one does not know why. */
function causeOf(failures: readonly unknown[]): unknown {
  const isFollowUp = (thrown: unknown) =>
    (thrown instanceof NereidError && thrown.code === 'RANK_LOST') || messageOf(thrown).includes('is lost');
  return failures.find((thrown) => !isFollowUp(thrown)) ?? failures[0];
}

function leaderAddress(folder: string, token: string): RankAddress {
  return {
    path: process.platform === 'win32' ? `\\\\.\\pipe\\nereid-ranks-${token}` : join(folder, socketName),
  };
}
