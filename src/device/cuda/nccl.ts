import koffi from 'koffi';
import type { Collective } from '../collective/collective.ts';
import { DeviceError } from '../errors.ts';
import { type DevicePointer, type Handle, handleFrom } from './driver.ts';
import { type Bound, bindTable, declare } from './ffi.ts';
import { findLibrary, systemPlaces } from './find-libraries.ts';
import type { Gpu } from './gpu.ts';
import type { ActivationType } from './views.ts';

type Out = BigUint64Array;

/** Bytes of `ncclUniqueId`, which is passed by value. */
const idBytes = 128;
koffi.struct('ncclUniqueId', { internal: koffi.array('uint8_t', idBytes, 'Typed') });

/** Every function of `libnccl` that Nereid calls. */
export const ncclTable = {
  ncclGetVersion: declare<(version: Int32Array) => number>('p'),
  ncclGetErrorString: declare<(status: number) => string>('int', 'str'),
  ncclGetUniqueId: declare<(id: Uint8Array) => number>('p'),
  ncclCommInitRank:
    declare<(group: Out, ranks: number, id: { internal: Uint8Array }, rank: number) => number>(
      'p int ncclUniqueId int',
    ),
  ncclCommAbort: declare<(group: Handle) => number>('p'),
  ncclAllReduce: declare<
    (
      from: DevicePointer,
      to: DevicePointer,
      count: number,
      type: number,
      operation: number,
      group: Handle,
      stream: Handle,
    ) => number
  >('u64 u64 size_t int int p p'),
  ncclAllGather:
    declare<
      (
        from: DevicePointer,
        to: DevicePointer,
        count: number,
        type: number,
        group: Handle,
        stream: Handle,
      ) => number
    >('u64 u64 size_t int p p'),
} as const;

/** `ncclDataType_t` and `ncclRedOp_t`. */
const dataTypes: Readonly<Record<ActivationType, number>> = { f16: 6, f32: 7, bf16: 9 };
const sumOperation = 0;

/** Newer ones run in captured graphs, and know Hopper. */
const versionMin = 22000;

/** The GPUs of a tensor-parallel group, one a process, as seen by one of them. Everything is queued on this GPU's stream. */
export class NcclGroup {
  readonly rank: number;
  readonly ranks: number;
  readonly #calls: Bound<typeof ncclTable>;
  readonly #group: Handle;
  readonly #stream: Handle;

  private constructor(
    calls: Bound<typeof ncclTable>,
    group: Handle,
    stream: Handle,
    { rank, ranks }: Collective,
  ) {
    this.#calls = calls;
    this.#group = group;
    this.#stream = stream;
    this.rank = rank;
    this.ranks = ranks;
  }

  /**
   * Meets the other ranks, which call this too. NVLink multicast stays off unless the environment says otherwise (`NCCL_NVLS_ENABLE`).
   * @param collective carries NCCL's id from rank 0 to the others
   * @throws DeviceError where NCCL is missing or too old, or the GPUs do not come together
   */
  static async join(gpu: Gpu, folders: readonly string[], collective: Collective): Promise<NcclGroup> {
    process.env.NCCL_NVLS_ENABLE ??= '0';
    const library = findLibrary('nccl', systemPlaces(), folders);
    const calls = bindTable(library, ncclTable);
    const version = new Int32Array(1);
    calls.ncclGetVersion(version);
    if ((version[0] ?? 0) < versionMin) {
      const problem = `${library.path} is NCCL ${version[0]}, older than ${versionMin}`;
      throw new DeviceError('DEVICE_LIBRARY_MISMATCH', `${problem}: pip install nvidia-nccl-cu13`);
    }
    const id = new Uint8Array(idBytes);
    if (collective.rank === 0) checkNccl(calls, calls.ncclGetUniqueId(id), 'ncclGetUniqueId');
    // Everybody else adds zeros.
    const shared = Float32Array.from(id);
    await collective.allReduce(shared);
    const internal = Uint8Array.from(shared);
    const group = handleFrom((out) => {
      const status = calls.ncclCommInitRank(out, collective.ranks, { internal }, collective.rank);
      checkNccl(calls, status, `joining ${collective.ranks} GPUs as rank ${collective.rank}`);
      return 0;
    });
    return new NcclGroup(calls, group, gpu.stream, collective);
  }

  /** Replaces `count` elements by their sum over the group. */
  allReduce(at: DevicePointer, count: number, type: ActivationType): void {
    const status = this.#calls.ncclAllReduce(
      ...([at, at, count, dataTypes[type], sumOperation, this.#group, this.#stream] as const),
    );
    checkNccl(this.#calls, status, 'a sum over the ranks');
  }

  /** Writes every rank's `count` elements one after the other, in rank order. */
  allGather(from: DevicePointer, to: DevicePointer, count: number, type: ActivationType): void {
    const status = this.#calls.ncclAllGather(
      ...([from, to, count, dataTypes[type], this.#group, this.#stream] as const),
    );
    checkNccl(this.#calls, status, 'joining values of the ranks');
  }

  /** Leaves without waiting for the others, which may be gone. */
  close(): void {
    this.#calls.ncclCommAbort(this.#group);
  }
}

function checkNccl(calls: Bound<typeof ncclTable>, status: number, what: string): void {
  if (status === 0) return;
  const fix = 'set NCCL_DEBUG=WARN for its own account; each rank needs a GPU of its own';
  throw new DeviceError('DEVICE_FAILED', `NCCL: ${what}: ${calls.ncclGetErrorString(status)}: ${fix}`);
}
