import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism, cpus, freemem, release, totalmem } from 'node:os';
import { messageOf } from '../base/errors.ts';
import { installedGgmlRelease } from '../device/ggml/release.ts';
import { devices } from '../device/registry.ts';
import { formatBytes } from './progress.ts';

/** One row of the doctor's report. */
export interface Check {
  name: string;
  status: 'ok' | 'warn' | 'fail';
  /** What was found. */
  value: string;
  /** What to do about it; with `warn` and `fail`. */
  fix?: string;
  /** Nothing can run where this one fails. */
  needed?: boolean;
}

/** A check to be run. */
export interface Probe {
  name: string;
  run(): Check | Promise<Check>;
}

/** Below this, even a small model and its KV cache do not fit. */
const memoryBytesMin = 1e9;

/** Memory limits of control groups, versions 2 and 1. */
const cgroupLimitFiles = ['/sys/fs/cgroup/memory.max', '/sys/fs/cgroup/memory/memory.limit_in_bytes'];

/** The version that package.json asks for. */
const nodeMin: readonly [number, number] = [20, 19];

export const hardwareChecks: Probe[] = [
  { name: 'Node.js', run: checkNode },
  { name: 'platform', run: checkPlatform },
  { name: 'CPU', run: checkCpu },
  { name: 'memory', run: checkMemory },
  { name: 'device ggml', run: checkGgml },
  { name: 'NVIDIA GPU', run: checkGpu },
];

function checkNode(): Check {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const recent = major > nodeMin[0] || (major === nodeMin[0] && minor >= nodeMin[1]);
  const row = { name: 'Node.js', value: process.versions.node, needed: true };
  return recent
    ? { ...row, status: 'ok' }
    : { ...row, status: 'fail', fix: `install Node ${nodeMin.join('.')} or newer` };
}

function checkPlatform(): Check {
  return { name: 'platform', status: 'ok', value: `${process.platform} ${release()} ${process.arch}` };
}

function checkCpu(): Check {
  const threads = availableParallelism();
  const model = cpus()[0]?.model.trim() || 'unknown processor';
  const row = {
    name: 'CPU',
    value: `${model}, ${threads} thread${threads === 1 ? '' : 's'} for this process`,
  };
  if (threads > 1) return { ...row, status: 'ok' };
  return {
    ...row,
    status: 'warn',
    fix: 'the server and its engine share one core; give the process two or more',
  };
}

/** Bytes that this process may use: the machine's memory, or less inside a container. */
function memoryLimit(): { bytes: number; limited: boolean } {
  for (const path of cgroupLimitFiles) {
    if (!existsSync(path)) continue;
    const bytes = Number(readFileSync(path, 'utf8').trim());
    if (Number.isFinite(bytes) && bytes < totalmem()) return { bytes, limited: true };
  }
  return { bytes: totalmem(), limited: false };
}

function checkMemory(): Check {
  const { bytes, limited } = memoryLimit();
  const where = limited ? 'limit of this container' : 'in all';
  const value = `${formatBytes(bytes)} ${where}, ${formatBytes(Math.min(bytes, freemem()))} free`;
  const row = { name: 'memory', value, needed: true };
  if (bytes >= memoryBytesMin) return { ...row, status: 'ok' };
  return {
    ...row,
    status: 'warn',
    fix: `models need about their file size and ${formatBytes(memoryBytesMin)} more`,
  };
}

async function checkGgml(): Promise<Check> {
  const name = 'device ggml';
  const installed = installedGgmlRelease();
  try {
    const device = await (await devices.load('ggml')).openDevice({});
    const { hardware, details } = device.describe();
    device.close();
    const more = Object.entries(details).map(([key, value]) => `${key} ${value}`);
    const value = [hardware, `release ${installed ?? 'unknown'}`, ...more].join('; ');
    return { name, status: 'ok', value, needed: true };
  } catch (thrown) {
    const value = thrown instanceof Error ? thrown.message : String(thrown);
    return {
      name,
      status: 'fail',
      value,
      fix: 'run `npm install` with optional dependencies on this platform',
      needed: true,
    };
  }
}

/** The GPU with its driver and toolkit, or what the cuda device misses to use it. */
async function checkGpu(): Promise<Check> {
  const name = 'NVIDIA GPU';
  const value = await describeGpu();
  if (value === undefined) return { name, status: 'ok', value: 'no NVIDIA driver (models run on the CPU)' };
  try {
    const device = await (await devices.load('cuda')).openDevice({});
    const { hardware, details } = device.describe();
    device.close();
    const more = Object.entries(details).map(([key, text]) => `${key} ${text}`);
    return { name, status: 'ok', value: [value, hardware, ...more].join('; ') };
  } catch (thrown) {
    const fix = 'repair it as said, then serve with --device cuda; without it models run on the CPU';
    return { name, status: 'warn', value: `${value}; ${messageOf(thrown)}`, fix };
  }
}

/** The driver's CUDA version and device count; undefined where libcuda cannot be loaded. */
async function describeGpu(): Promise<string | undefined> {
  const { default: koffi } = await import('koffi');
  const file = process.platform === 'win32' ? 'nvcuda.dll' : 'libcuda.so.1';
  try {
    const cuda = koffi.load(file);
    const initialize = cuda.func('int cuInit(unsigned int flags)');
    if (initialize(0) !== 0) return 'driver installed, but it finds no GPU';
    const version = [0];
    const count = [0];
    cuda.func('int cuDriverGetVersion(_Out_ int *version)')(version);
    cuda.func('int cuDeviceGetCount(_Out_ int *count)')(count);
    const number = version[0] ?? 0;
    return `${count[0]} GPU(s), driver for CUDA ${Math.floor(number / 1000)}.${Math.floor((number % 1000) / 10)}`;
  } catch {
    return undefined;
  }
}
