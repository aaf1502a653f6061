import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../../src/base/entry.ts';
import { installOnce, installTimeoutMs, type NotInstalled } from './install.ts';

/** Git, the type checker and the linter look past it there. */
const venvs = join(packageRoot, '.venv');

/** What installs the others: pip's own resolver takes minutes for so many. */
const installer = 'uv==0.13.9';

const run = promisify(execFile);

/** The virtual environment's Python, or why there is none. */
export type ForeignPython = { python: string } | NotInstalled;

/**
 * Makes `.venv/foreign` with the pinned foreign clients, unless it is there already. Where there is no Python, no venv module or no
 * package index, the tests are skipped with that reason.
 * @param name of the environment
 * @param listName file in this folder that lists its packages
 */
export async function foreignPython(name = 'foreign', listName = 'requirements.txt'): Promise<ForeignPython> {
  const needs = 'python3 with venv, pip and its index';
  const folder = join(venvs, name);
  const list = join(import.meta.dirname, listName);
  const python = join(folder, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');
  return (await installOnce(folder, list, needs, () => install(folder, list, python))) ?? { python };
}

async function install(folder: string, list: string, python: string): Promise<void> {
  await run('python3', ['-m', 'venv', folder], { timeout: installTimeoutMs });
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', installer];
  await run(python, pip, { timeout: installTimeoutMs });
  const uv = ['-m', 'uv', 'pip', 'install', '--quiet', '--python', python, '-r', list];
  const { PIP_INDEX_URL, ...env } = process.env;
  // An index that pip was told of in the environment counts for uv too.
  if (PIP_INDEX_URL && !env.UV_DEFAULT_INDEX) env.UV_DEFAULT_INDEX = PIP_INDEX_URL;
  await run(python, uv, { timeout: installTimeoutMs, env });
}
