import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { copyFileSync, cpSync, existsSync, mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { NotInstalled } from './install.ts';
import { foreignPython } from './venv.ts';

/** A running genuine tritonserver. */
export interface GenuineServer {
  child: ChildProcess;
  httpPort: number;
  grpcPort: number;
  metricsPort: number;
  log(): string;
  stop(): Promise<void>;
}

/** What starts genuine servers. */
export interface GenuineTriton {
  /** @param wrapper a command that it is started by, `taskset` for example */
  start(repository: string, flags?: readonly string[], wrapper?: readonly string[]): Promise<GenuineServer>;
}

const startTimeoutMs = 120_000;
const probe = `import sys, sysconfig, pathlib, importlib.util as u
print(sys.version_info[0], sys.version_info[1], sep='.')
print(pathlib.Path(u.find_spec('pytriton').origin).parent.parent)
print(sysconfig.get_config_var('LIBDIR'))`;

/** Puts tritonserver 2.51.0 (of the wheel nvidia-pytriton) under `.venv/triton`, unless it is there; or says why it cannot. */
export async function genuineTriton(): Promise<GenuineTriton | NotInstalled> {
  if (process.platform !== 'linux' || process.arch !== 'x64') return { skip: 'not x86-64 Linux' };
  const found = await foreignPython('triton', 'triton-requirements.txt');
  if ('skip' in found) return found;
  const answer = await promisify(execFile)(found.python, ['-c', probe]);
  const [version = '', packages = '', libraries = ''] = answer.stdout.trim().split('\n');
  const server = join(packages, 'pytriton', 'tritonserver');
  const stub = join(server, 'python_backend_stubs', version, 'triton_python_backend_stub');
  if (!existsSync(stub)) return { skip: `tritonserver 2.51.0 has no Python backend for Python ${version}` };
  const backends = join(dirname(dirname(found.python)), 'backends');
  if (!existsSync(join(backends, 'python', 'triton_python_backend_stub'))) {
    mkdirSync(backends, { recursive: true });
    cpSync(join(server, 'backends', 'python'), join(backends, 'python'), { recursive: true });
    copyFileSync(stub, join(backends, 'python', 'triton_python_backend_stub'));
  }
  const env = {
    ...process.env,
    PATH: `${dirname(found.python)}:${process.env.PATH}`,
    LD_LIBRARY_PATH: `${libraries}:${join(packages, 'nvidia_pytriton.libs')}`,
    PYTHONPATH: packages,
  };
  const command = [join(server, 'bin', 'tritonserver'), `--backend-directory=${backends}`];
  return {
    start: (repository, flags = [], wrapper = []) => start([...wrapper, ...command], env, repository, flags),
  };
}

async function start(
  [path = '', ...fixed]: readonly string[],
  env: NodeJS.ProcessEnv,
  repository: string,
  flags: readonly string[],
): Promise<GenuineServer> {
  const [httpPort = 0, grpcPort = 0, metricsPort = 0] = await freePorts(3);
  const ports = [`--http-port=${httpPort}`, `--grpc-port=${grpcPort}`, `--metrics-port=${metricsPort}`];
  const hosts = ['--http-address=127.0.0.1', '--grpc-address=127.0.0.1'];
  const args = [...fixed, `--model-repository=${repository}`, ...ports, ...hosts, ...flags];
  const child = spawn(path, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes) => {
      text += bytes;
    });
  }
  const hasExited = () => child.exitCode !== null || child.signalCode !== null;
  const stop = async (): Promise<void> => {
    // Its drain waits for clients' connections; nothing here needs it.
    child.kill('SIGKILL');
    for (let waitedMs = 0; !hasExited() && waitedMs < startTimeoutMs; waitedMs += 20) await sleep(20);
  };
  for (const deadlineMs = Date.now() + startTimeoutMs; ; await sleep(50)) {
    const isUp = text.includes('Started GRPCInferenceService') && text.includes('Started HTTPService');
    if (isUp) return { child, httpPort, grpcPort, metricsPort, log: () => text, stop };
    if (!hasExited() && Date.now() < deadlineMs) continue;
    await stop();
    throw new Error(`tritonserver did not start: ${text}`);
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    ports.push((server.address() as { port: number }).port);
  }
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
