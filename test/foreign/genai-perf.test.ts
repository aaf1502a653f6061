import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { packageRoot } from '../../src/base/entry.ts';
import { startServe } from '../support/serve.ts';
import { perfAnalyzer } from './perf-analyzer.ts';
import { foreignPython } from './venv.ts';

const timeoutMs = 300_000;
const requests = 5;

/** Why it cannot run, or the path and the environment that it needs. */
async function genaiPerf(): Promise<{ skip: string } | { path: string; env: NodeJS.ProcessEnv }> {
  if (process.env.NEREID_GENAI_PERF !== '1') return { skip: 'takes 1 GB; NEREID_GENAI_PERF=1 runs it' };
  const analyzer = await perfAnalyzer();
  if ('skip' in analyzer) return analyzer;
  const found = await foreignPython('genai-perf', 'genai-perf-requirements.txt');
  if ('skip' in found) return found;
  const folder = dirname(found.python);
  const paths = [folder, dirname(analyzer.path), process.env.PATH];
  return {
    path: join(folder, 'genai-perf'),
    env: { ...analyzer.env, PATH: paths.join(delimiter), HF_HUB_OFFLINE: '1' },
  };
}

test('genai-perf measures the ensemble over gRPC streams', async (context) => {
  const found = await genaiPerf();
  if ('skip' in found) return context.skip(found.skip);
  const folder = mkdtempSync(join(tmpdir(), 'nereid-genai-'));
  context.after(() => rmSync(folder, { recursive: true }));
  const server = await startServe('foreign-genai', [
    ...['--device', 'null', '--device-option', 'step-ms=2', '--grpc-port', '0', '--log-level', 'error'],
  ]);
  context.after(() => server.stop());
  const port = /Started GRPCInferenceService at \S+:(\d+)/.exec(server.log())?.[1];
  const artifacts = join(folder, 'artifacts');
  const args = [
    ...['profile', '-m', 'ensemble', '--service-kind', 'triton', '--backend', 'tensorrtllm', '--streaming'],
    ...['-u', `127.0.0.1:${port}`, '--tokenizer', join(packageRoot, 'models', 'nereid-16m')],
    ...['--concurrency', '2', '--num-prompts', String(requests), '--measurement-interval', '2000'],
    ...['--synthetic-input-tokens-mean', '20', '--output-tokens-mean', '8', '--artifact-dir', artifacts],
    ...['--', '-s', '999'],
  ];
  const options = { env: found.env, cwd: folder, timeout: timeoutMs };
  const { stdout, stderr } = await promisify(execFile)(found.path, args, options);
  assert.match(stdout, /Time to first token/, stderr);
  const report = JSON.parse(readFileSync(join(artifacts, 'profile_export_genai_perf.json'), 'utf8'));
  assert.equal(report.output_sequence_length.avg, 8, stdout);
});
