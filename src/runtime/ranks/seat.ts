import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageVersion } from '../../base/package-version.ts';
import { manifestFileName } from '../../builder/manifest.ts';
import type { Collective } from '../../device/collective/collective.ts';
import type { Parallelism } from '../../models/partition.ts';
import type { RankAddress } from './address.ts';
import { RankGroup } from './rank-group.ts';
import { RankMesh } from './rank-mesh.ts';

/** Which rank of which group a process is, and where it finds the others. */
export interface RankSeat {
  rank: number;
  parallelism: Parallelism;
  /** Where rank 0 listens. */
  leader: RankAddress;
  secret: string;
  /** Files of shared memory, one a stage; absent where the ranks lie on several hosts. */
  regions?: string[];
  joinTimeoutMs?: number;
}

/** Whether the rank's stage makes the step's result. */
export function isInLastStage({ rank, parallelism }: RankSeat): boolean {
  return Math.floor(rank / parallelism.tensor) === parallelism.pipeline - 1;
}

/** A taken seat: this rank's connections to all others. */
export interface TakenSeat {
  group: RankGroup;
  collective: Collective | undefined;
  /** All ranks draw on the same memory. */
  isOneHost: boolean;
}

/**
 * Joins the group.
 * @param engineFolder absent for an engine without weights
 * @throws RuntimeError `RANK_REFUSED`, `RANKS_INCOMPLETE`, `RANK_LOST`; DeviceError for shared memory of another version
 */
export async function takeSeat(
  seat: RankSeat,
  engineFolder: string | undefined,
  onRefused: (reason: string) => void,
): Promise<TakenSeat> {
  const { rank, parallelism, leader, secret, regions, joinTimeoutMs } = seat;
  const ranks = parallelism.tensor * parallelism.pipeline;
  const engine = engineFolder === undefined ? 'no weights' : engineHash(engineFolder);
  const identity = { rank, ranks, secret, version: packageVersion(), engine };
  const mesh = await RankMesh.join({ identity, leader, onRefused, ...(joinTimeoutMs && { joinTimeoutMs }) });
  const group = new RankGroup(mesh, parallelism);
  return { group, collective: group.collective(regions), isOneHost: regions !== undefined };
}

/** The manifest holds the hash of every file: equal manifests are equal engines. */
function engineHash(folder: string): string {
  return createHash('sha256')
    .update(readFileSync(join(folder, manifestFileName)))
    .digest('hex');
}
