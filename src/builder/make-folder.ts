import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Makes a folder and those above it. Node's own recursive `mkdir` never returns where a file system denies a folder by ENOENT (`/proc`).
 * @throws what the file system says
 */
export async function makeFolder(path: string): Promise<void> {
  const missing: string[] = [];
  for (let folder = path; !existsSync(folder) && dirname(folder) !== folder; folder = dirname(folder)) {
    missing.unshift(folder);
  }
  for (const folder of missing) {
    await mkdir(folder).catch((thrown: NodeJS.ErrnoException) => {
      // Another process may have made it meanwhile.
      if (thrown.code !== 'EEXIST') throw thrown;
    });
  }
}
