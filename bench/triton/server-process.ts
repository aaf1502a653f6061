import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../src/base/entry.ts';

/** A running `nereid serve`. */
export interface ServerProcess {
  httpPort: number;
  grpcPort: number;
  child: ChildProcess;
  stop(): Promise<void>;
}

const startTimeoutMs = 120_000;

/** Runs `bin/nereid serve` as built, with free ports; on larger machines on the first two cores. */
export async function startServer(args: readonly string[]): Promise<ServerProcess> {
  const pin = availableParallelism() > 2 && existsSync('/usr/bin/taskset');
  const node = [process.execPath, join(packageRoot, 'bin/nereid'), 'serve', ...args];
  const ports = ['--http-port', '0', '--grpc-port', '0'];
  const [command = '', ...rest] = [...(pin ? ['/usr/bin/taskset', '-c', '0,1'] : []), ...node, ...ports];
  const child = spawn(command, rest, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, NEREID_OFFLINE: '1' },
  });
  let text = '';
  child.stderr?.on('data', (bytes) => {
    text += bytes;
  });
  const portAfter = (words: string): number | undefined => {
    const found = new RegExp(`${words} at \\S+:(\\d+)`).exec(text)?.[1];
    return found === undefined ? undefined : Number(found);
  };
  for (const deadline = Date.now() + startTimeoutMs; ; ) {
    const httpPort = portAfter('Started HTTPService');
    const grpcPort = portAfter('Started GRPCInferenceService');
    if (httpPort && grpcPort) return { httpPort, grpcPort, child, stop: () => stop(child) };
    if (child.exitCode !== null || Date.now() > deadline)
      throw new Error(`the server did not start: ${text}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  child.kill('SIGINT');
  await once(child, 'exit');
}
