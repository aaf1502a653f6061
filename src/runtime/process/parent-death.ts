import koffi from 'koffi';

const prSetPdeathsig = 1;
const sigkill = 9;

/**
 * Asks the kernel to kill this process when its parent dies (Linux), so that even a parent killed with SIGKILL leaves no orphan
 * holding a GPU. Elsewhere the closing IPC channel does it, as soon as the running step ends.
 */
export function dieWithParent(): void {
  if (process.platform !== 'linux') return;
  const parentBefore = process.ppid;
  const prctl = koffi
    .load(null)
    .func('int prctl(int option, ulong argument2, ulong argument3, ulong argument4, ulong argument5)');
  prctl(prSetPdeathsig, sigkill, 0, 0, 0);
  // The parent may have died before the call took effect.
  if (process.ppid !== parentBefore) process.exit(1);
}
