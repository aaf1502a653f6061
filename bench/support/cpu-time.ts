import { readdirSync, readFileSync } from 'node:fs';

/** Milliseconds of a clock tick of Linux's `/proc`. */
const tickMs = 10;

/** CPU milliseconds that a process and its descendants have used, each with its title; empty where there is no `/proc`. */
export function cpuTimesMs(processId: number): Map<number, number> {
  const times = new Map<number, number>();
  const parents = new Map<number, number>();
  const used = new Map<number, number>();
  for (const name of listing()) {
    const fields = statOf(name);
    if (!fields) continue;
    parents.set(Number(name), Number(fields[1]));
    used.set(Number(name), (Number(fields[11]) + Number(fields[12])) * tickMs);
  }
  const belongs = (id: number): boolean =>
    id === processId || (parents.has(id) && id > 1 && belongs(parents.get(id) ?? 0));
  for (const [id, ms] of used) if (belongs(id)) times.set(id, ms);
  return times;
}

function listing(): string[] {
  try {
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
}

/** The fields behind the command's name: state, parent, … */
function statOf(name: string): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${name}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}
