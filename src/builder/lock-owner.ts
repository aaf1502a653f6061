import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { z } from 'zod';
import { isProcessAlive } from '../base/processes.ts';

/**
 * Who holds a lock. A process id alone says too little: in containers every Nereid has the same small one, so that a killed builder on a
 * shared volume would look alive to the next.
 */
const lockOwnerSchema = z.strictObject({
  pid: z.number().int().positive(),
  hostName: z.string(),
  /** Changes with every boot; absent where the system has none. */
  bootId: z.string().optional(),
  /** When the process started, in the system's own ticks since boot; absent where the system does not say. */
  startTime: z.string().optional(),
  /** Of this one lock. */
  token: z.string(),
});

export type LockOwner = z.infer<typeof lockOwnerSchema>;

/**
 * A lock of another host (a shared volume) cannot be checked by its process. Its holder touches it every `heartbeatMs`; one that was not
 * touched for `foreignLockMsMax` is dead.
 */
export const heartbeatMs = 10_000;
export const foreignLockMsMax = 60_000;

/** The tokens of the locks that this process holds. */
export const heldTokens = new Set<string>();

/** A new owner: this process, with a token of its own. */
export function newOwner(): LockOwner {
  return ownerOf(process.pid);
}

/** A process of this host as an owner, with a new token. */
export function ownerOf(pid: number): LockOwner {
  const startTime = processState(pid)?.startTime;
  return { pid, hostName: hostname(), bootId: bootId(), startTime, token: randomUUID() };
}

/** @returns undefined for a text that is no owner */
export function parseOwner(text: string): LockOwner | undefined {
  try {
    return lockOwnerSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/**
 * Whether the process that took a lock still lives.
 * @param ageMs how long ago the lock was touched, by the clock of its file system
 */
export function isOwnerAlive(owner: LockOwner, ageMs: number): boolean {
  if (owner.hostName !== hostname()) return ageMs <= foreignLockMsMax;
  if (owner.bootId !== bootId()) return false;
  if (owner.pid === process.pid) return heldTokens.has(owner.token);
  if (!isProcessAlive(owner.pid)) return false;
  const found = processState(owner.pid);
  if (!found) return true;
  // A zombie holds nothing; another start time is another process with the same id.
  return found.state !== 'Z' && (owner.startTime ?? found.startTime) === found.startTime;
}

function bootId(): string | undefined {
  return readText('/proc/sys/kernel/random/boot_id')?.trim();
}

/** Fields 3 and 22 of `/proc/<pid>/stat` (proc_pid_stat(5)), counted behind the name, which may hold spaces and brackets itself. */
function processState(pid: number): { state: string; startTime: string } | undefined {
  const text = readText(`/proc/${pid}/stat`);
  const [state, ...fields] = text?.slice(text.lastIndexOf(')') + 2).split(' ') ?? [];
  const startTime = fields[18];
  return state && startTime ? { state, startTime } : undefined;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
