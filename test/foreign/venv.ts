import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../../src/base/entry.ts';
import { installOnce, installTimeoutMs, type NotInstalled } from './install.ts';

/** Git, the type checker and the linter look past it there. */
const venvFolder = join(packageRoot, '.venv', 'foreign');
const requirementsFile = join(import.meta.dirname, 'requirements.txt');
const pythonOf = (folder: string): string =>
  join(folder, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');

/** What installs the others: pip's own resolver takes minutes for so many. */
const installer = 'uv==0.13.9';

const run = promisify(execFile);

/** The virtual environment's Python, or why there is none. */
export type ForeignPython = { python: string } | NotInstalled;

/**
 * Makes `.venv/foreign` with the pinned foreign clients, unless it is there already. Where there is no Python, no venv module or no
 * package index, the tests are skipped with that reason.
 */
export async function foreignPython(): Promise<ForeignPython> {
  const needs = 'python3 with venv, pip and its index';
  return (
    (await installOnce(venvFolder, requirementsFile, needs, install)) ?? { python: pythonOf(venvFolder) }
  );
}

const install = (): Promise<void> => installVenv(venvFolder, requirementsFile);

/** Makes a virtual environment with what a list says. @throws Error where there is no Python, no venv module or no package index */
export async function installVenv(folder: string, listFile: string): Promise<void> {
  const python = pythonOf(folder);
  await run('python3', ['-m', 'venv', folder], { timeout: installTimeoutMs });
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', installer];
  await run(python, pip, { timeout: installTimeoutMs });
  const uv = ['-m', 'uv', 'pip', 'install', '--quiet', '--python', python, '-r', listFile];
  const { PIP_INDEX_URL, ...env } = process.env;
  // An index that pip was told of in the environment counts for uv too.
  if (PIP_INDEX_URL && !env.UV_DEFAULT_INDEX) env.UV_DEFAULT_INDEX = PIP_INDEX_URL;
  await run(python, uv, { timeout: installTimeoutMs, env });
}
