/**
 * npm run bench:size
 *
 * What `npm install` of the packed package puts on a disk: production dependencies for this platform, the embedded models and the built
 * code. Bar: 200 MB.
 */
import { execFileSync } from 'node:child_process';
import { lstatSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../src/base/entry.ts';

const barMegabytes = 200;

/** Bytes of all files below a path. */
function bytesOf(path: string): number {
  const stat = lstatSync(path);
  if (!stat.isDirectory()) return stat.size;
  return readdirSync(path).reduce((sum, name) => sum + bytesOf(join(path, name)), 0);
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1).padStart(7);
const folder = mkdtempSync(join(tmpdir(), 'nereid-size-'));
try {
  const packed = execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], {
    cwd: packageRoot,
    encoding: 'utf8',
  });
  const tarball = packed.trim().split('\n').at(-1) ?? '';
  writeFileSync(join(folder, 'package.json'), '{ "private": true }');
  execFileSync('npm', ['install', '--silent', '--no-audit', '--no-fund', join(folder, tarball)], {
    cwd: folder,
    stdio: 'inherit',
  });
  const modules = join(folder, 'node_modules');
  const packages = readdirSync(modules)
    .flatMap((name) =>
      name.startsWith('@') ? readdirSync(join(modules, name)).map((part) => `${name}/${part}`) : [name],
    )
    .map((name) => ({ name, bytes: bytesOf(join(modules, name)) }))
    .sort((a, b) => b.bytes - a.bytes);
  const own = join(modules, 'nereid');
  for (const { name, bytes } of packages.slice(0, 12)) console.log(`${megabytes(bytes)} MB  ${name}`);
  console.log(
    `${megabytes(packages.slice(12).reduce((sum, { bytes }) => sum + bytes, 0))} MB  ${packages.length - 12} more`,
  );
  console.log(
    `nereid itself: models ${megabytes(bytesOf(join(own, 'models')))} MB, code ${megabytes(bytesOf(join(own, 'dist')))} MB`,
  );
  console.log(
    `in all${megabytes(bytesOf(modules))} MB   bar ≤ ${barMegabytes} MB   tarball ${megabytes(bytesOf(join(folder, tarball)))} MB`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
