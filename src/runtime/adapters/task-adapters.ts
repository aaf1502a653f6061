import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashInTurns } from '../../base/hash-in-turns.ts';
import { loraNpyNames } from '../../checkpoint/lora-npy.ts';
import { type NpyArray, writeNpy } from '../../checkpoint/npy.ts';
import type { EngineClient } from '../client.ts';
import { adapterNotLoaded, adaptersUnsupported, RuntimeError } from '../errors.ts';
import type { AdapterReference } from '../requests/request.ts';
import type { AdapterDirectory } from './adapter.ts';

/** An adapter as requests bring it: the two arrays of TensorRT-LLM's `hf_lora_convert.py`, with or without their batch axis. */
export interface BroughtAdapter {
  weights: NpyArray;
  config: NpyArray;
}

/** Adapters of one front end that are being loaded at a time; each has its weights in memory and on disk meanwhile. */
export const taskLoadsMax = 16;

interface Loaded {
  /** Of the arrays as they came. */
  hash: string;
  reference: Promise<AdapterReference>;
}

/**
 * LoRA as TensorRT-LLM's requests have it: a number names a task's adapter, and a request may bring its weights. What was brought is known to the engine alone,
 * until it leaves its cache: then a client sends it again. What `lora_prefetch_dir` names is read again from its files.
 */
export class TaskAdapters {
  readonly #client: Pick<EngineClient, 'adapters' | 'description'>;
  readonly #loads = new Map<string, Loaded>();
  #loading = 0;

  constructor(client: Pick<EngineClient, 'adapters' | 'description'>) {
    this.#client = client;
  }

  /** The adapter that a task has. @throws RuntimeError `ADAPTER_NOT_FOUND`, `ADAPTERS_UNSUPPORTED` */
  find(task: bigint): AdapterReference {
    const name = String(task);
    const found = this.#directory()
      .list()
      .find((one) => one.name === name);
    if (!found) throw adapterNotLoaded(name);
    return { name, digest: found.digest };
  }

  /**
   * Gives a task the adapter that a request brings; the same one again costs nothing but a look at it.
   * @throws RuntimeError `ADAPTER_*`, `ADAPTERS_UNSUPPORTED`, `QUEUE_FULL`; CheckpointError `LORA_*`
   */
  async load(task: bigint, adapter: BroughtAdapter): Promise<AdapterReference> {
    const name = String(task);
    const directory = this.#directory();
    if (this.#loading >= taskLoadsMax) {
      const problem = `${taskLoadsMax} LoRA adapters are being loaded (taskLoadsMax)`;
      throw new RuntimeError('QUEUE_FULL', `${problem}; try again later`);
    }
    this.#loading++;
    try {
      const hash = await hashOf(adapter);
      const before = this.#loads.get(name);
      if (before?.hash === hash) {
        const reference = await before.reference.catch(() => undefined);
        if (reference && has(directory, reference)) return reference;
      }
      const reference = (before?.reference ?? Promise.resolve())
        .catch(() => {})
        .then(() => load(directory, name, adapter));
      this.#loads.set(name, { hash, reference });
      this.#forgetEvicted(directory, name);
      return await reference;
    } finally {
      this.#loading--;
    }
  }

  #directory(): AdapterDirectory {
    const { adapters, description } = this.#client;
    if (!adapters) throw adaptersUnsupported(description.device);
    return adapters;
  }

  #forgetEvicted(directory: AdapterDirectory, kept: string): void {
    const names = new Set(directory.list().map((one) => one.name));
    for (const name of this.#loads.keys()) if (name !== kept && !names.has(name)) this.#loads.delete(name);
  }
}

function has(directory: AdapterDirectory, { name, digest }: AdapterReference): boolean {
  return directory.list().some((one) => one.name === name && one.digest === digest);
}

async function hashOf({ weights, config }: BroughtAdapter): Promise<string> {
  const hash = createHash('sha256');
  for (const { dtype, shape, data } of [weights, config]) {
    hash.update(`${dtype} ${shape.join(' ')}\n`);
    await hashInTurns(hash, data);
  }
  return hash.digest('hex');
}

/** By way of files, which engines read by themselves: an adapter may be larger than a message. */
async function load(
  directory: AdapterDirectory,
  name: string,
  { weights, config }: BroughtAdapter,
): Promise<AdapterReference> {
  const folder = await mkdtemp(join(tmpdir(), 'nereid-lora-'));
  try {
    await writeNpy(join(folder, loraNpyNames.weights), weights);
    await writeNpy(join(folder, loraNpyNames.config), config);
    const { digest } = await directory.load({ name, path: folder, isTransient: true });
    return { name, digest };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
