/** A contender in a process of its own, driven by IPC: load once, then run scenarios on demand, so that two can be interleaved. */
import { readFileSync } from 'node:fs';
import type { Contender, ContenderOptions, RunTimes, Scenario } from './contender.ts';

export type ContenderName = 'nereid' | 'node-llama-cpp';

export type ChildCommand =
  | { kind: 'load'; contender: ContenderName; options: ContenderOptions }
  | { kind: 'run'; scenario: Scenario };

export type ChildReply =
  | { kind: 'loaded'; loadMs: number }
  | { kind: 'ran'; times: RunTimes; peakRssBytes: number; accountedBytes?: number }
  | { kind: 'failed'; message: string };

let contender: Contender | undefined;

/** The process's peak resident set (VmHWM), in bytes. */
function peakRssBytes(): number {
  const match = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(match?.[1] ?? Number.NaN) * 1024;
}

async function obey(command: ChildCommand): Promise<ChildReply> {
  if (command.kind === 'load') {
    const startMs = performance.now();
    const module =
      command.contender === 'nereid' ? await import('./nereid.ts') : await import('./node-llama-cpp.ts');
    contender = await module.openContender(command.options);
    return { kind: 'loaded', loadMs: performance.now() - startMs };
  }
  if (!contender) throw new Error('run before load');
  const times = await contender.run(command.scenario);
  return { kind: 'ran', times, peakRssBytes: peakRssBytes(), accountedBytes: contender.accountedBytes?.() };
}

process.on('message', (command: ChildCommand) => {
  obey(command).then(
    (reply) => process.send?.(reply),
    (error: Error) =>
      process.send?.({ kind: 'failed', message: error.stack ?? error.message } satisfies ChildReply),
  );
});
process.on('disconnect', () => process.exit(0));
