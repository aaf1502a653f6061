// Runs every *.test.ts under src/ and test/ (or those whose path contains an argument) with node:test through tsx, and ends with one
// plain line: `N passed, N failed`. `node --test` on Node 20 takes no globs, hence this runner.
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';

const filters = process.argv.slice(2).filter((argument) => !argument.startsWith('-'));
const files = ['src', 'test']
  .flatMap((root) => readdirSync(root, { recursive: true }).map((path) => `${root}/${path}`))
  .filter((path) => path.endsWith('.test.ts') && !path.includes('node_modules'))
  .filter((path) => filters.length === 0 || filters.some((filter) => path.includes(filter)))
  .sort();

if (files.length === 0) {
  console.error(`no test file matches ${filters.join(' ')}`);
  process.exit(1);
}

const counts = { passed: 0, failed: 0, skipped: 0 };
const fileTimeoutMs = 10 * 60 * 1000;
process.env.NODE_OPTIONS = `${process.env.NODE_OPTIONS ?? ''} --import ${import.meta.resolve('tsx')}`.trim();
const stream = run({ files, concurrency: Math.max(1, availableParallelism()), timeout: fileTimeoutMs });
// A suite's own row is not a test: only leaves count.
stream.on('test:pass', (event) => {
  if (event.details?.type === 'suite') return;
  if (event.skip !== undefined) counts.skipped++;
  else counts.passed++;
});
stream.on('test:fail', (event) => {
  if (event.details?.type !== 'suite') counts.failed++;
});
stream.compose(spec).pipe(process.stdout);
stream.on('end', () => {
  setImmediate(() => {
    const skipped = counts.skipped ? `, ${counts.skipped} skipped` : '';
    console.log(`\n${counts.passed} passed, ${counts.failed} failed${skipped}`);
    process.exit(counts.failed === 0 && counts.passed > 0 ? 0 : 1);
  });
});
