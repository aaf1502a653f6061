import { type ErrorKind, NereidError } from '../../base/errors.ts';
import type { AdapterDescription, AdapterDirectory, AdapterSource } from '../adapters/adapter.ts';
import { adapterNotLoaded, RuntimeError } from '../errors.ts';
import type { AdapterCommand, AdaptersMessage } from './messages.ts';

interface PendingCommand {
  resolve: () => void;
  reject: (error: NereidError) => void;
}

/** Commands about adapters that may wait for an engine's answer. */
export const adapterCommandsMax = 256;

/** The adapters of an engine behind a socket. What was loaded at run time is loaded again when the engine has come back without it. */
export class RemoteAdapters implements AdapterDirectory {
  readonly #send: (command: AdapterCommand) => boolean;
  readonly #pending = new Map<number, PendingCommand>();
  #list: readonly AdapterDescription[] | undefined;
  #number = 0;

  /** @param send gives a command to the engine, or says that it is away */
  constructor(send: (command: AdapterCommand) => boolean) {
    this.#send = send;
  }

  /** Whether the engine serves adapters; false before it has said so. */
  get isServed(): boolean {
    return this.#list !== undefined;
  }

  list(): readonly AdapterDescription[] {
    return this.#list ?? [];
  }

  async load(source: AdapterSource): Promise<AdapterDescription> {
    await this.#command({ load: source });
    const loaded = this.list().find(({ name }) => name === source.name);
    if (!loaded) throw adapterNotLoaded(source.name);
    return loaded;
  }

  async unload(name: string): Promise<void> {
    await this.#command({ unload: name });
  }

  /** The engine introduced itself, for the first time or again. */
  hello(list: readonly AdapterDescription[] | undefined): void {
    const before = this.#list ?? [];
    this.#list = list;
    if (!list) return;
    const names = new Set(list.map(({ name }) => name));
    for (const { name, path, isTransient } of before) {
      // What only its client knows, its client sends again.
      if (!names.has(name) && !isTransient) this.#send({ number: this.#number++, load: { name, path } });
    }
  }

  receive({ list, reply }: AdaptersMessage): void {
    this.#list = list;
    const pending = reply && this.#pending.get(reply.number);
    if (!pending) return;
    this.#pending.delete(reply.number);
    const { error } = reply;
    if (error) pending.reject(new NereidError(error.code, error.kind as ErrorKind, error.message));
    else pending.resolve();
  }

  lost(): void {
    for (const { reject } of this.#pending.values()) reject(away());
    this.#pending.clear();
  }

  #command(command: Omit<AdapterCommand, 'number'>): Promise<void> {
    if (this.#pending.size >= adapterCommandsMax) {
      const problem = `${adapterCommandsMax} adapters are being loaded or unloaded (adapterCommandsMax)`;
      return Promise.reject(new RuntimeError('QUEUE_FULL', `${problem}; try again later`));
    }
    const number = this.#number++;
    return new Promise((resolve, reject) => {
      this.#pending.set(number, { resolve, reject });
      if (this.#send({ number, ...command })) return;
      this.#pending.delete(number);
      reject(away());
    });
  }
}

function away(): RuntimeError {
  const message = 'the engine is starting or restarting; try again in a moment';
  return new RuntimeError('ENGINE_UNAVAILABLE', message);
}
