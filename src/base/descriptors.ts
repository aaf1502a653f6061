import { readFileSync } from 'node:fs';

/** Open descriptors that this process may have; undefined where the system does not say (Linux does). */
export function descriptorsMax(): number | undefined {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
    return soft === undefined ? undefined : Number(soft);
  } catch {
    return undefined;
  }
}
