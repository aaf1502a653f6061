// Runs every *.test.ts under src/ and test/ (or those whose path contains an argument) with node:test through tsx, and ends with one
// plain line: `N passed, N failed`. `node --test` on Node 20 takes no globs, hence this runner.
//
// As many files run at once as there are cores. A file that fails beside others runs once more, alone: what passes then was starved, not
// wrong, and is named at the end so that somebody mends it; what fails again has failed. `--once` leaves the second run out.
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';

const fileTimeoutMs = 10 * 60 * 1000;
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

/** Runs one file in a process of its own, prints its report, and resolves to its counts. A suite's own row is not a test: only leaves count. */
async function runFile(file) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const startMs = performance.now();
  const stream = run({ files: [file], concurrency: 1, timeout: fileTimeoutMs });
  stream.on('test:pass', ({ details, skip }) => {
    if (details?.type !== 'suite') counts[skip === undefined ? 'passed' : 'skipped']++;
  });
  stream.on('test:fail', ({ details }) => {
    if (details?.type !== 'suite') counts.failed++;
  });
  let report = '';
  for await (const part of stream.compose(spec)) report += part;
  // Each file's own totals would drown the one line that counts.
  console.log(`${file} (${((performance.now() - startMs) / 1000).toFixed(1)} s)`);
  console.log(report.replace(/^ℹ .*\n/gm, '').trimEnd());
  return counts;
}

/** Runs files from the list until it is empty, and notes each one's counts. */
async function drain(pending, results) {
  for (let file = pending.shift(); file !== undefined; file = pending.shift()) {
    results.set(file, await runFile(file));
  }
}

process.env.NODE_OPTIONS = `${process.env.NODE_OPTIONS ?? ''} --import ${import.meta.resolve('tsx')}`.trim();
const results = new Map();
const pending = [...files];
await Promise.all(Array.from({ length: Math.max(1, availableParallelism()) }, () => drain(pending, results)));

const failed = () => files.filter((file) => results.get(file).failed > 0);
const again = process.argv.includes('--once') ? [] : failed();
if (again.length > 0) {
  console.log(`\nfailed beside others, now alone: ${again.join(' ')}\n`);
  await drain([...again], results);
  for (const file of again.filter((one) => !failed().includes(one)))
    console.log(`unsteady: ${file} passed only when it ran alone`);
}

const total = (key) => files.reduce((sum, file) => sum + results.get(file)[key], 0);
if (failed().length > 0) console.log(`\nfailed: ${failed().join(' ')}`);
console.log(
  `\n${total('passed')} passed, ${total('failed')} failed${total('skipped') > 0 ? `, ${total('skipped')} skipped` : ''}`,
);
process.exit(total('failed') === 0 && total('passed') > 0 ? 0 : 1);
