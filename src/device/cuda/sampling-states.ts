import type { SamplingStateLoad } from '../step.ts';
import type { DevicePointer } from './driver.ts';
import type { Gpu } from './gpu.ts';
import { HostMemory } from './host-memory.ts';
import { int, LaunchArena, launch, pointer } from './launch.ts';
import { MemoryPool } from './memory-pool.ts';

/** 32-bit words of `SamplingState` (kernels/sampling-state.cuh), rounded up to 16 bytes. */
const structWords = 20;
/** Words that a state has room for at first, its struct and lists together. */
const wordsMin = 256;
const countThreads = 256;

/** Where a state lies: its struct with its lists behind it, and its counts if it ever had penalties. */
interface Place {
  at: DevicePointer;
  words: number;
  counts: DevicePointer;
}

function hasPenalties(load: SamplingStateLoad): boolean {
  return load.repetitionPenalty !== 1 || load.presencePenalty !== 0 || load.frequencyPenalty !== 0;
}

/** Tokens that penalties count; none without penalties. */
function countedTokens(load: SamplingStateLoad): number {
  return hasPenalties(load) ? load.promptTokens.length + load.outputTokens.length : 0;
}

function wordsOf(load: SamplingStateLoad): number {
  const words = structWords + countedTokens(load) + 2 * load.biasTokens.length + load.bannedTokens.length;
  return Math.ceil(words / 4) * 4;
}

/**
 * Penalties, bias and bans of sequences on the GPU, by {@link SamplingStateLoad.state}. A state's memory is made when it is first loaded and
 * kept: counts take 4 bytes a word of the vocabulary, so that the sampling kernel looks them up in place.
 */
export class SamplingStates {
  readonly #gpu: Gpu;
  readonly #pool: MemoryPool;
  readonly #vocabularySize: number;
  readonly #places = new Map<number, Place>();

  constructor(gpu: Gpu, vocabularySize: number) {
    this.#gpu = gpu;
    this.#pool = new MemoryPool(gpu.driver);
    this.#vocabularySize = vocabularySize;
  }

  /** Where a state's struct lies; 0 for one that was never loaded. */
  addressOf(state: number): DevicePointer {
    return this.#places.get(state)?.at ?? 0;
  }

  /**
   * Queues the setting up of states.
   * @param staging page-locked memory that the GPU has done with; a larger one is made where it is too small
   * @returns the memory that it reads from until the step is done
   */
  load(loads: readonly SamplingStateLoad[], staging: HostMemory | undefined): HostMemory | undefined {
    if (loads.length === 0) return staging;
    const words = loads.reduce((sum, load) => sum + wordsOf(load), 0);
    const memory = HostMemory.atLeast(this.#gpu.driver, words * 4, staging);
    let at = 0;
    for (const load of loads) {
      this.#loadOne(load, memory, at);
      at += wordsOf(load);
    }
    return memory;
  }

  #loadOne(load: SamplingStateLoad, memory: HostMemory, at: number): void {
    const { driver, stream } = this.#gpu;
    const words = wordsOf(load);
    const place = this.#placeFor(load, words);
    write(load, memory, at, place);
    driver.cuMemcpyHtoDAsync_v2(place.at, memory.address + BigInt(at * 4), words * 4, stream);
    if (!hasPenalties(load)) return;
    driver.cuMemsetD8Async(place.counts, 0, this.#vocabularySize * 4, stream);
    this.#count(place, load.promptTokens.length, countedTokens(load));
  }

  #placeFor(load: SamplingStateLoad, words: number): Place {
    const known = this.#places.get(load.state);
    const place = known ?? { at: 0, words: 0, counts: 0 };
    if (place.words < words) {
      // What a state has outgrown stays in the pool: rooms double, so that is less than what it has.
      place.words = 2 ** Math.ceil(Math.log2(Math.max(words, wordsMin)));
      place.at = this.#pool.take(place.words * 4);
    }
    if (hasPenalties(load)) place.counts ||= this.#pool.take(this.#vocabularySize * 4);
    this.#places.set(load.state, place);
    return place;
  }

  #count({ at, counts }: Place, promptCount: number, count: number): void {
    if (count === 0) return;
    const { driver, modules, stream } = this.#gpu;
    const arena = new LaunchArena();
    const prepared = arena.prepare(
      {
        kernel: modules.kernel('count-tokens', 'countTokens'),
        grid: [Math.ceil(count / countThreads), 1, 1],
        threads: countThreads,
        sharedBytes: 0,
        parameters: [pointer(at + structWords * 4), pointer(counts), int(promptCount), int(count)],
        overlaps: false,
      },
      stream,
    );
    launch(driver, prepared);
    arena.close();
  }

  close(): void {
    this.#pool.close();
    this.#places.clear();
  }
}

/** Writes a state as it is to lie on the GPU: the struct, counted tokens, bias, bans. */
function write(
  load: SamplingStateLoad,
  { words, floats, doubles }: HostMemory,
  at: number,
  place: Place,
): void {
  const counted = countedTokens(load);
  const { biasTokens, biasValues, bannedTokens } = load;
  const biasAt = structWords + counted;
  const valuesAt = biasAt + biasTokens.length;
  const bansAt = valuesAt + biasTokens.length;
  doubles.set([load.repetitionPenalty, load.presencePenalty, load.frequencyPenalty], at / 2);
  writePointer(words, at + 6, counted > 0 || hasPenalties(load) ? place.counts : 0);
  [biasAt, valuesAt, bansAt].forEach((list, index) => {
    writePointer(words, at + 8 + index * 2, place.at + list * 4);
  });
  words.set([biasTokens.length, bannedTokens.length, load.banUntilPosition, 0], at + 14);
  if (counted > 0) {
    words.set(load.promptTokens, at + structWords);
    words.set(load.outputTokens, at + structWords + load.promptTokens.length);
  }
  words.set(biasTokens, at + biasAt);
  floats.set(biasValues, at + valuesAt);
  words.set(bannedTokens, at + bansAt);
}

/** Writes an address as two 32-bit words. */
export function writePointer(words: Int32Array, at: number, address: DevicePointer): void {
  words[at] = (address % 2 ** 32) | 0;
  words[at + 1] = Math.floor(address / 2 ** 32);
}
