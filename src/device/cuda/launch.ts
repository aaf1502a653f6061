import { assert } from '../../base/errors.ts';
import type { Driver, Handle } from './driver.ts';
import { NativeMemory } from './native-memory.ts';

/** One member of a kernel's `Parameters` struct, in C's order: an address or 64-bit count, a 32-bit integer, a float32. */
export type Argument = { readonly pointer: number } | { readonly int: number } | { readonly float: number };

/** Shorthands that read like the struct they fill. */
export const pointer = (value: number) => ({ pointer: value });
export const int = (value: number): Argument => ({ int: value });
export const float = (value: number): Argument => ({ float: value });

/** A kernel with its arguments and its grid, ready to be launched any number of times. */
export interface KernelLaunch {
  readonly kernel: Handle;
  readonly grid: readonly [number, number, number];
  readonly threads: number;
  readonly sharedBytes: number;
  readonly parameters: readonly Argument[];
  /** Whether it may start before the kernel ahead of it ends (it waits by itself for what that one wrote). */
  readonly overlaps: boolean;
}

/** Offsets in `CUlaunchConfig` and `CUlaunchAttribute` (cuda.h). */
const configBytes = 56;
const attributeBytes = 72;
const programmaticSerialization = 6;
const slabBytes = 1 << 16;

/** Writes a struct as the C compiler lays it out: each member aligned to its size. @returns its bytes */
export function packArguments(view: DataView, at: number, parameters: readonly Argument[]): number {
  let offset = 0;
  for (const argument of parameters) {
    if ('pointer' in argument) {
      offset = Math.ceil(offset / 8) * 8;
      view.setBigUint64(at + offset, BigInt(argument.pointer), true);
      offset += 8;
    } else {
      if ('int' in argument) view.setInt32(at + offset, argument.int, true);
      else view.setFloat32(at + offset, argument.float, true);
      offset += 4;
    }
  }
  return Math.ceil(offset / 8) * 8;
}

/** A launch whose configuration lies in native memory. */
export interface PreparedLaunch {
  readonly kernel: Handle;
  readonly config: bigint;
  readonly parameters: bigint;
}

/** Prepares launches once, so that launching is one call without any marshalling. */
export class LaunchArena {
  readonly #slabs: NativeMemory[] = [];

  prepare(launch: KernelLaunch, stream: Handle): PreparedLaunch {
    const { kernel, grid, threads, sharedBytes, parameters, overlaps } = launch;
    assert(grid.every((size) => size > 0) && threads > 0, 'a grid that is not empty');
    const memory = this.#slab(configBytes + attributeBytes + 16 + parameters.length * 8 + 64);
    const attribute = memory.take(attributeBytes);
    memory.view.setUint32(attribute, programmaticSerialization, true);
    memory.view.setUint32(attribute + 8, 1, true);
    const config = memory.take(configBytes);
    [...grid, threads, 1, 1, sharedBytes].forEach((value, index) => {
      memory.view.setUint32(config + index * 4, value, true);
    });
    memory.view.setBigUint64(config + 32, stream, true);
    memory.view.setBigUint64(config + 40, memory.addressOf(attribute), true);
    memory.view.setUint32(config + 48, overlaps ? 1 : 0, true);
    const struct = memory.take(parameters.length * 8);
    packArguments(memory.view, struct, parameters);
    const list = memory.take(8);
    memory.view.setBigUint64(list, memory.addressOf(struct), true);
    return { kernel, config: memory.addressOf(config), parameters: memory.addressOf(list) };
  }

  #slab(bytes: number): NativeMemory {
    const last = this.#slabs.at(-1);
    if (last && last.bytesFree >= bytes + 64) return last;
    const fresh = new NativeMemory(Math.max(slabBytes, bytes + 64));
    this.#slabs.push(fresh);
    return fresh;
  }

  close(): void {
    for (const slab of this.#slabs) slab.close();
    this.#slabs.length = 0;
  }
}

/** Queues a prepared kernel on the stream it was prepared for. */
export function launch(driver: Driver, prepared: PreparedLaunch): void {
  driver.cuLaunchKernelEx(prepared.config, prepared.kernel, prepared.parameters, null);
}
