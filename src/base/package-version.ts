import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from './entry.ts';

/** Nereid's own version, from its package.json. */
export function packageVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8'));
  if (manifest !== null && typeof manifest === 'object' && 'version' in manifest)
    return String(manifest.version);
  return 'unknown';
}
