import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '../../src/base/entry.ts';

/** A running `nereid serve` of a benchmark. */
export interface BenchServer {
  url: string;
  processId: number;
  /** Briton's address, where it was asked for. */
  briton: string | undefined;
  /** KServe's gRPC address, where it was asked for. */
  grpc: string | undefined;
  stop(): Promise<void>;
}

/** Starts `bin/nereid serve nereid-16m` on free ports and waits until it answers. */
export async function serveBench(
  flags: readonly string[],
  environment: NodeJS.ProcessEnv = {},
): Promise<BenchServer> {
  const command = [
    join(packageRoot, 'bin/nereid'),
    'serve',
    'nereid-16m',
    '--http-port',
    '0',
    '--log-level',
    'error',
  ];
  const env = { ...process.env, NODE_OPTIONS: '', ...environment };
  const child = spawn(process.execPath, [...command, ...flags], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  const url = await new Promise<string>((resolve, reject) => {
    child.once('exit', () => reject(new Error(log)));
    child.stderr.on('data', (bytes) => {
      log += bytes;
      // The line that comes after the addresses.
      const found = /on (http:\/\/\S+)[\s\S]*Started HTTPService/.exec(log)?.[1];
      if (found) resolve(found);
    });
  });
  return {
    url,
    processId: child.pid ?? 0,
    briton: /on (\S+) \(Briton gRPC\)/.exec(log)?.[1],
    grpc: /GRPCInferenceService at (\S+)/.exec(log)?.[1],
    stop: async () => {
      if (child.exitCode !== null) return;
      child.removeAllListeners('exit');
      const gone = once(child, 'exit');
      child.kill('SIGINT');
      await gone;
    },
  };
}
