import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../../src/base/entry.ts';
import { installOnce, installTimeoutMs, type NotInstalled } from './install.ts';

const folder = join(packageRoot, '.venv', 'perf');
const requirementsFile = join(import.meta.dirname, 'perf-requirements.txt');
/** A library that the binary wants and no wheel has. */
const debianPackage = 'libb64-0d';

const run = promisify(execFile);

/** How perf_analyzer is started, or why it is not there. */
export type PerfAnalyzer = { path: string; env: NodeJS.ProcessEnv } | NotInstalled;

/** Puts perf_analyzer and its libraries under `.venv/perf`, unless they are there. Skips where PyPI, apt-get or Debian's index are not. */
export async function perfAnalyzer(): Promise<PerfAnalyzer> {
  const needs = 'pip and its index, apt-get download and dpkg-deb on x86-64';
  const libraries = [join(folder, 'usr/lib/x86_64-linux-gnu'), join(folder, 'nvidia/cuda_runtime/lib')];
  const env = { ...process.env, LD_LIBRARY_PATH: libraries.join(':') };
  const path = join(folder, 'bin/perf_analyzer');
  const missing = await installOnce(folder, requirementsFile, needs, () => install(path, env));
  return missing ?? { path, env };
}

async function install(path: string, env: NodeJS.ProcessEnv): Promise<void> {
  if (process.platform !== 'linux' || process.arch !== 'x64') throw new Error('not x86-64 Linux');
  mkdirSync(folder, { recursive: true });
  const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps'];
  await run('python3', [...pip, '--target', folder, '-r', requirementsFile], { timeout: installTimeoutMs });
  await run('apt-get', ['download', debianPackage], { cwd: folder, timeout: installTimeoutMs });
  const file = readdirSync(folder).find((name) => name.startsWith(debianPackage) && name.endsWith('.deb'));
  if (!file) throw new Error(`${debianPackage} was not downloaded`);
  await run('dpkg-deb', ['-x', join(folder, file), folder]);
  if (!existsSync(path)) throw new Error('the wheel has no bin/perf_analyzer');
  // Needs a newer C library than some machines have; it says so here, not in the middle of a test.
  await run(path, ['--version'], { env });
}
