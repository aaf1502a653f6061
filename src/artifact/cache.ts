import {
  accessSync,
  constants,
  existsSync,
  readFileSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { messageOf } from '../base/errors.ts';
import { sha256File } from '../builder/hash.ts';
import { makeFolder } from '../builder/make-folder.ts';
import { ArtifactError } from './errors.ts';

/** Remembered file hashes; older ones are dropped. */
const rememberedHashesMax = 1000;

/** The folder for everything that Nereid can fetch or build again: $NEREID_CACHE, else `nereid` in the user's cache folder. */
export function cacheRoot(environment: NodeJS.ProcessEnv = process.env): string {
  if (environment.NEREID_CACHE) return environment.NEREID_CACHE;
  return join(environment.XDG_CACHE_HOME || join(homedir(), '.cache'), 'nereid');
}

/** Downloads, built engines and remembered hashes below one folder. Safe for several processes at once. */
export class Cache {
  readonly root: string;

  constructor(root: string = cacheRoot()) {
    this.root = root;
  }

  /** Where a catalogue model's downloads lie. */
  modelFolder(name: string): string {
    return join(this.root, 'models', name);
  }

  /** Where an engine of this name and content key lies, whether it is there or not. */
  engineFolder(name: string, key: string): string {
    return join(this.root, 'engines', `${name.replaceAll(/[^A-Za-z0-9._-]/g, '-')}-${key.slice(0, 16)}`);
  }

  /** Makes a folder below the root. @throws ArtifactError CACHE_UNWRITABLE with the fix */
  async makeFolder(path: string): Promise<string> {
    try {
      await makeFolder(path);
      return path;
    } catch (thrown) {
      const problem = `cannot write to the cache folder ${this.root} (${messageOf(thrown)})`;
      const fix = 'set NEREID_CACHE to a folder that you may write to';
      throw new ArtifactError('CACHE_UNWRITABLE', `${problem}; ${fix}`, { cause: thrown });
    }
  }

  /** The first folder on the way to the root that exists can be written to. */
  get writable(): boolean {
    let folder = this.root;
    while (!existsSync(folder) && dirname(folder) !== folder) folder = dirname(folder);
    try {
      accessSync(folder, constants.W_OK);
      return true;
    } catch {
      return false;
    }
  }

  /** Marks an engine as used now, so that pruning takes others first. */
  touch(path: string): void {
    const now = new Date();
    try {
      utimesSync(path, now, now);
    } catch {
      // A read-only cache serves as well; it is never pruned by us.
    }
  }

  /** Bytes below the root. */
  async sizeBytes(): Promise<number> {
    return existsSync(this.root) ? folderBytes(this.root) : 0;
  }

  /**
   * Removes the engines that were not used for longest until those left take at most `bytesMax`. Engines in use keep working on Linux
   * and macOS: their files live on until they are closed.
   * @returns the removed folders
   */
  async pruneEngines(bytesMax: number): Promise<string[]> {
    const folder = join(this.root, 'engines');
    if (!existsSync(folder)) return [];
    const engines: { path: string; bytes: number; usedMs: number }[] = [];
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      const manifest = join(path, 'engine.json');
      if (!existsSync(manifest)) continue;
      engines.push({ path, bytes: await folderBytes(path), usedMs: statSync(manifest).mtimeMs });
    }
    engines.sort((a, b) => a.usedMs - b.usedMs);
    let total = engines.reduce((sum, engine) => sum + engine.bytes, 0);
    const removed: string[] = [];
    for (const engine of engines) {
      if (total <= bytesMax) break;
      await rm(engine.path, { recursive: true, force: true });
      total -= engine.bytes;
      removed.push(engine.path);
    }
    return removed;
  }

  /**
   * A file's SHA-256, remembered by path, size, times and inode, so that a model of gigabytes is hashed once and not at every start.
   * A file changed in place with its time set back is taken for the old one; `nereid build --verify` looks at the bytes.
   */
  async sha256(
    path: string,
    options: { onBytes?: (bytes: number) => void; signal?: AbortSignal } = {},
  ): Promise<string> {
    const { size, mtimeMs, ctimeMs, ino } = await stat(path);
    const stamp = `${size}:${mtimeMs}:${ctimeMs}:${ino}`;
    const known = this.#readHashes()[path];
    if (known?.stamp === stamp) return known.sha256;
    const sha256 = await sha256File(path, options);
    await this.#remember(path, { stamp, sha256 });
    return sha256;
  }

  get #hashesPath(): string {
    return join(this.root, 'hashes.json');
  }

  #readHashes(): Record<string, RememberedHash> {
    try {
      const value: unknown = JSON.parse(readFileSync(this.#hashesPath, 'utf8'));
      return isHashes(value) ? value : {};
    } catch {
      return {};
    }
  }

  /** The last writer wins: at worst a file is hashed once more. */
  async #remember(path: string, hash: RememberedHash): Promise<void> {
    const others = Object.entries(this.#readHashes()).filter(([known]) => known !== path);
    const kept = [...others, [path, hash] as const].slice(-rememberedHashesMax);
    const temporary = `${this.#hashesPath}.${process.pid}`;
    try {
      await makeFolder(this.root);
      writeFileSync(temporary, JSON.stringify(Object.fromEntries(kept)));
      renameSync(temporary, this.#hashesPath);
    } catch {
      // Without a writable cache every start hashes anew; whatever must write there says so itself.
    }
  }
}

interface RememberedHash {
  stamp: string;
  sha256: string;
}

function isHashes(value: unknown): value is Record<string, RememberedHash> {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).every(
      (row) => typeof row?.stamp === 'string' && /^[0-9a-f]{64}$/.test(String(row?.sha256)),
    )
  );
}

async function folderBytes(folder: string): Promise<number> {
  let total = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    total += await stat(join(entry.parentPath, entry.name)).then(
      (found) => found.size,
      () => 0,
    );
  }
  return total;
}
