import { runLoad } from '../../load/runner/run.ts';
import { computeMetrics } from '../../load/statistics/metrics.ts';
import { firstModel } from '../../load/target/models.ts';
import { targets } from '../../load/target/registry.ts';
import { exitCodes } from '../errors.ts';
import { withInterrupt } from '../interrupt.ts';

/** What commander makes of `nereid bench identity`'s command line. */
export interface IdentityFlags {
  target: string;
  url?: string;
  model?: string;
  batchSize: number;
  startLen: number;
  outputLen: number;
  warmUp: number;
  rounds: number;
}

/** Ids are drawn below it where a protocol takes no text. */
const vocabularySize = 4096;

/** Runs `nereid bench identity`. @throws LoadError */
export async function runIdentity(flags: IdentityFlags): Promise<void> {
  const { batchSize, startLen, outputLen } = flags;
  const row = await targets.load(flags.target);
  const url = flags.url ?? row.usualUrl;
  const model = flags.model ?? (flags.target.startsWith('openai') ? await firstModel(url, {}) : '');
  const exactly = (mean: number) => ({ distribution: 'normal' as const, mean, spread: 0 });
  const plan = {
    target: {
      kind: flags.target,
      url,
      model,
      headers: {},
      streams: true,
      sampling: { temperature: 0, ignoreEos: true },
      extraBody: {},
      timeoutMs: 0,
      channels: 1,
    },
    workload: {
      source: {
        kind: 'synthetic' as const,
        input: exactly(startLen),
        prefixes: 1,
        prefixTokens: 0,
        turns: 1,
      },
      output: exactly(outputLen),
      seed: 0,
      sendsTokens: !row.sendsText,
      vocabularySize,
      models: [],
      cancelShare: 0,
      salted: false,
    },
    pace: { kind: 'closed' as const, concurrency: batchSize },
    sessions: batchSize * flags.rounds,
    warmupSessions: batchSize * flags.warmUp,
    workers: 1,
    keepsText: false,
  };
  await withInterrupt(async (signal) => {
    const result = await runLoad(plan, { signal });
    const metrics = computeMetrics(result.records, result.durationMs, { percentiles: [] });
    process.stdout.write(
      `[INFO] Batch size: ${batchSize}, Start len: ${startLen}, Output len: ${outputLen}\n`,
    );
    process.stdout.write(`[INFO] Latency: ${metrics.latencies.e2el.mean.toFixed(3)} ms\n`);
    process.stdout.write(`[INFO] Throughput: ${metrics.requestThroughput.toFixed(3)} sentences / sec\n`);
    for (const [message, count] of metrics.errors.slice(0, 3))
      process.stderr.write(`${count} × ${message}\n`);
    if (result.isInterrupted) process.exitCode = exitCodes.interrupted;
    else if (metrics.completed === 0) process.exitCode = exitCodes.failure;
  });
}
