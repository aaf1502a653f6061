import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';

/** Codes as they stand in the source: keys of the layers' tables, and first arguments of error constructors. */
function codesInSource(): Set<string> {
  const codes = new Set<string>();
  const root = join(packageRoot, 'src');
  for (const path of readdirSync(root, { recursive: true }) as string[]) {
    if (!path.endsWith('.ts') || path.endsWith('.test.ts')) continue;
    const text = readFileSync(join(root, path), 'utf8');
    const isTable = path.endsWith('errors.ts');
    if (isTable)
      for (const [, code] of text.matchAll(/^ {2}([A-Z][A-Z_]{5,}): [['{]/gm)) codes.add(code as string);
    const constructed = /new \w*Error\(\s*(?:\w+ \? '([A-Z][A-Z_]{5,})' : )?'([A-Z][A-Z_]{5,})'/g;
    for (const [, first, second] of text.matchAll(constructed)) {
      if (first) codes.add(first);
      codes.add(second as string);
    }
    for (const [, code] of text.matchAll(/super\('([A-Z][A-Z_]{5,})'/g)) codes.add(code as string);
  }
  return codes;
}

test('docs/errors.md lists every code once, and no other', () => {
  const page = readFileSync(join(packageRoot, 'docs/errors.md'), 'utf8');
  const listed = [...page.matchAll(/^\| `([A-Z_]+)` \|/gm)].map((match) => match[1] as string);
  assert.equal(new Set(listed).size, listed.length, 'a code is listed twice');
  const source = codesInSource();
  assert.ok(source.size > 80, 'the search for codes is broken');
  assert.deepEqual([...source].filter((code) => !listed.includes(code)).sort(), [], 'undocumented');
  assert.deepEqual(listed.filter((code) => !source.has(code)).sort(), [], 'documented but gone');
});
