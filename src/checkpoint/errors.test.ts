import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../base/entry.ts';
import { CheckpointError, checkpointErrorKinds, fileError, writeError } from './errors.ts';

test('docs/checkpoint.md lists every code, and no other', () => {
  const page = readFileSync(join(packageRoot, 'docs/checkpoint.md'), 'utf8');
  const rows = page
    .slice(page.indexOf('## Errors'))
    .split('\n')
    .filter((line) => line.startsWith('| `'));
  const documented = rows.flatMap((row) => row.split('|')[1]!.match(/[A-Z_]{4,}/g) ?? []);
  assert.deepEqual(documented.sort(), Object.keys(checkpointErrorKinds).sort());
});

test('file-system failures become CheckpointErrors that name the path', () => {
  const missing = fileError('/a', Object.assign(new Error('x'), { code: 'ENOENT' }));
  assert.equal(missing.code, 'CHECKPOINT_NOT_FOUND');
  assert.equal(missing.kind, 'not-found');
  const denied = fileError('/a', Object.assign(new Error('denied'), { code: 'EACCES' }));
  assert.match(denied.message, /cannot read \/a: denied/);
  assert.equal(writeError('/a', new Error('full')).code, 'CHECKPOINT_WRITE_FAILED');
  const own = new CheckpointError('GGUF_LIMIT', 'x');
  assert.equal(fileError('/a', own), own);
});
