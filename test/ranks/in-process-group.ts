import { join } from 'node:path';
import { buildEngine } from '../../src/builder/build.ts';
import { type BuildRecipe, defaultRecipe } from '../../src/builder/config.ts';
import { modelOfGguf } from '../../src/builder/model.ts';
import { openEngine } from '../../src/builder/open-engine.ts';
import { partsOf, planOfRank } from '../../src/builder/shard.ts';
import { openGguf } from '../../src/checkpoint/gguf-reader.ts';
import { writeGguf } from '../../src/checkpoint/gguf-writer.ts';
import { tensorChunks } from '../../src/checkpoint/tensor-file.ts';
import type { Device, DeviceModel, DeviceModelSource } from '../../src/device/device.ts';
import { devices } from '../../src/device/registry.ts';
import { followLeader } from '../../src/runtime/ranks/follow.ts';
import { leaderDevice } from '../../src/runtime/ranks/leader-device.ts';
import { RankGroup } from '../../src/runtime/ranks/rank-group.ts';
import { RankMesh } from '../../src/runtime/ranks/rank-mesh.ts';

/** All ranks of an engine in this process, over real connections: rank 0's model, and a way to end them all. */
export interface InProcessGroup {
  model: DeviceModel;
  vocabularySize: number;
  close(): Promise<void>;
}

export interface GroupShape {
  tensor: number;
  pipeline: number;
}

/** Builds an engine for a group below `folder`. */
export async function buildForGroup(
  source: string,
  folder: string,
  { tensor, pipeline }: GroupShape,
  recipe: Partial<BuildRecipe> = {},
): Promise<string> {
  const output = join(folder, `engine-${tensor}x${pipeline}-${recipe.dtype ?? 'auto'}`);
  const own = { ...defaultRecipe, ...recipe, tensorParallel: tensor, pipelineParallel: pipeline };
  await buildEngine({ source, name: 'group', output, recipe: own, replace: true });
  return output;
}

/** What a rank loads. */
export type SourceOfRank = (rank: number) => Promise<DeviceModelSource>;

/** The ranks of an engine folder. */
export const ranksOfEngine =
  (engine: string): SourceOfRank =>
  async (rank) =>
    (await openEngine(engine, { rank })).source;

/** Divides a GGUF file among ranks as a build does, without the rest of an engine. */
export async function ranksOfGguf(path: string, folder: string, shape: GroupShape): Promise<SourceOfRank> {
  const gguf = openGguf(path);
  const model = await modelOfGguf(gguf);
  const whole = {
    tensors: [...gguf.tensors.values()].map((tensor) => ({
      tensor: {
        ...tensor,
        *chunks() {
          for (const { bytes } of tensorChunks(tensor)) yield bytes;
        },
      },
      dtype: tensor.dtype,
    })),
    exceptions: [],
  };
  const parts = partsOf(model, shape, whole);
  const own = (rank: number) => join(folder, `part-${rank}.gguf`);
  for (const part of parts) {
    const { tensors } = planOfRank(model, part, whole);
    await writeGguf(own(part.rank), {
      metadata: gguf.metadata,
      tensors: tensors.map(({ tensor, dtype }) => ({
        name: tensor.name,
        shape: tensor.shape,
        dtype,
        data: tensor.chunks,
      })),
    });
  }
  return async (rank) => (await modelOfGguf(openGguf(own(rank)), parts[rank])).source;
}

export async function startGroup(
  sourceOf: SourceOfRank,
  folder: string,
  shape: GroupShape,
  deviceName: string,
  size: { blocks: number; contextLength: number; batchTokensMax: number },
): Promise<InProcessGroup> {
  const ranks = shape.tensor * shape.pipeline;
  const leader = { path: join(folder, `g${Math.random().toString(36).slice(2)}.sock`) };
  const openDevice = async (name: string): Promise<Device> => (await devices.load(name)).openDevice({});
  const meshes = await Promise.all(
    Array.from({ length: ranks }, (_, rank) =>
      RankMesh.join({ identity: { rank, ranks, secret: 'test', version: '1', engine: 'same' }, leader }),
    ),
  );
  const groups = meshes.map((mesh) => new RankGroup(mesh, shape));
  const followers = groups.slice(1).map(async (group, index) => {
    const source = await sourceOf(index + 1);
    const collective = group.collective(undefined);
    await followLeader({ group, collective, source, threads: 1, openDevice });
  });
  const ended = Promise.allSettled(followers);
  const [group] = groups as [RankGroup];
  const source = await sourceOf(0);
  const own = await openDevice(deviceName);
  const device = leaderDevice(own, { group, collective: group.collective(undefined), isOneHost: true });
  const { blocks, contextLength, batchTokensMax } = size;
  const weights = await device.load(
    { ...source, contextLength },
    { batchTokensMax, kvDtype: 'f32', threads: 1 },
  );
  const model = await weights.allocateKv({ blocks, blockPositions: contextLength, hostBlocks: 0 });
  return {
    model,
    vocabularySize: source.vocabularySize,
    async close() {
      for (const mesh of meshes) mesh.close();
      await ended;
      device.close();
    },
  };
}
