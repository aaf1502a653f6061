import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageFolder } from './library.ts';

/**
 * The release of the installed ggml, as its package names it. Reads a file; loads no library, so a front end may ask.
 * @param folder where ggml's libraries lie; default the installed package
 * @returns undefined where no package for this platform is installed
 */
export function installedGgmlRelease(folder?: string): string | undefined {
  const libraries = folder ?? attemptPackageFolder();
  if (libraries === undefined) return undefined;
  const path = join(libraries, '_nlcBuildMetadata.json');
  if (!existsSync(path)) return 'unknown';
  const metadata = JSON.parse(readFileSync(path, 'utf8')) as {
    buildOptions?: { llamaCpp?: { release?: unknown } };
  };
  return String(metadata.buildOptions?.llamaCpp?.release ?? 'unknown');
}

function attemptPackageFolder(): string | undefined {
  try {
    return packageFolder();
  } catch {
    return undefined;
  }
}
