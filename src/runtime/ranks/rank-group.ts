import type { Collective } from '../../device/collective/collective.ts';
import { openSharedCollective } from '../../device/collective/open-shared.ts';
import type { Parallelism } from '../../models/partition.ts';
import { LinkCollective } from './link-collective.ts';
import type { RankLink } from './rank-link.ts';
import type { RankMesh } from './rank-mesh.ts';

/** A rank's place in its group, and how it reaches the others. */
export class RankGroup {
  readonly mesh: RankMesh;
  readonly parallelism: Parallelism;
  readonly tensorRank: number;
  readonly stage: number;

  constructor(mesh: RankMesh, parallelism: Parallelism) {
    const { rank } = mesh.identity;
    this.mesh = mesh;
    this.parallelism = parallelism;
    this.tensorRank = rank % parallelism.tensor;
    this.stage = (rank - this.tensorRank) / parallelism.tensor;
  }

  get isFirstStage(): boolean {
    return this.stage === 0;
  }

  get isLastStage(): boolean {
    return this.stage === this.parallelism.pipeline - 1;
  }

  /** The same tensor rank of the stage before or after this one. */
  neighbour(direction: -1 | 1): RankLink {
    return this.mesh.link(this.mesh.identity.rank + direction * this.parallelism.tensor);
  }

  /** The rank that has each step's result. */
  get resultRank(): number {
    return (this.parallelism.pipeline - 1) * this.parallelism.tensor;
  }

  /**
   * What this stage's ranks exchange values by; undefined where it is one rank.
   * @param regions files of shared memory, one a stage; absent where the ranks lie on several hosts
   */
  collective(regions: readonly string[] | undefined): Collective | undefined {
    const { tensor } = this.parallelism;
    if (tensor === 1) return undefined;
    const path = regions?.[this.stage];
    if (path !== undefined) return openSharedCollective(path, this.tensorRank, tensor);
    const first = this.stage * tensor;
    const links = Array.from({ length: tensor }, (_, other) =>
      other === this.tensorRank ? undefined : this.mesh.link(first + other),
    );
    return new LinkCollective(this.tensorRank, links);
  }
}
