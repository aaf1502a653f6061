import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';

test('every relative link of README.md and docs/ leads somewhere, and every page is linked', () => {
  const pages = (readdirSync(join(packageRoot, 'docs'), { recursive: true }) as string[])
    .filter((path) => path.endsWith('.md'))
    .map((path) => join('docs', path));
  const reached = new Set<string>();
  const broken: string[] = [];
  for (const page of ['README.md', ...pages]) {
    const text = readFileSync(join(packageRoot, page), 'utf8');
    for (const [, target] of text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      const path = join(dirname(page), target as string);
      reached.add(path);
      if (!existsSync(join(packageRoot, path))) broken.push(`${page} → ${target}`);
    }
  }
  assert.deepEqual(broken, [], 'broken links');
  assert.deepEqual(
    pages.filter((page) => !reached.has(page)),
    [],
    'pages that nothing links to',
  );
});
