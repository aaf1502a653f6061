import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { installOnce, installTimeoutMs, type NotInstalled } from './install.ts';

/** The JavaScript clients' folder. */
export const nodeFolder = join(import.meta.dirname, 'node');
const modulesFolder = join(nodeFolder, 'node_modules');

/** Installs the JavaScript clients beside their script; says why where that cannot be. */
export async function foreignNode(): Promise<NotInstalled | undefined> {
  return installOnce(modulesFolder, join(nodeFolder, 'package.json'), 'npm and its registry', async () => {
    mkdirSync(modulesFolder, { recursive: true });
    const flags = ['--no-fund', '--no-audit', '--no-package-lock', '--ignore-scripts', '--loglevel=error'];
    await promisify(execFile)('npm', ['install', ...flags], { cwd: nodeFolder, timeout: installTimeoutMs });
  });
}
