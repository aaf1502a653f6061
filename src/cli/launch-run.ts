import { spawn } from 'node:child_process';
import { existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../base/entry.ts';
import { CliError } from './errors.ts';

/** What `nereid launch` was told. */
export interface LaunchFlags {
  world_size: number;
  model_repo: string;
  grpc_port: number;
  http_port: number;
  metrics_port: number;
  force?: boolean;
  log?: boolean;
  logFile: string;
  multiModel?: boolean;
  tensorrt_llm_model_name?: string;
  tritonserver?: string;
  mpi: boolean;
  oversubscribe?: boolean;
  disableSpawnProcesses?: boolean;
  trtllm_llmapi_launch?: boolean;
  exit_timeout?: number;
}

const probeTimeoutMs = 2_000;

/**
 * Starts the server as a process of its own and returns.
 * @throws CliError for what cannot be combined, and where a server answers already
 */
export async function launch(flags: LaunchFlags): Promise<void> {
  check(flags);
  if (!flags.force && (await answers(flags.http_port))) {
    const problem = `a server answers on port ${flags.http_port} already`;
    throw new CliError('PORT_IN_USE', `${problem}; stop it, or start another with --force and other ports`, {
      usage: false,
    });
  }
  for (const note of notes(flags)) process.stderr.write(`${note}\n`);
  const program = flags.tritonserver ?? process.execPath;
  const own = flags.tritonserver === undefined ? [join(packageRoot, 'bin', 'nereid')] : [];
  const log = flags.log ? openSync(flags.logFile, 'a') : 'inherit';
  const child = spawn(program, [...own, ...serveArguments(flags)], {
    detached: true,
    stdio: ['ignore', log, log],
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) =>
      reject(new CliError('CLI_VALUE_INVALID', `${program} does not start: ${cause.message}`, { cause })),
    );
  });
  child.unref();
  process.stdout.write(`${child.pid}\n`);
}

function check(flags: LaunchFlags): void {
  if ((flags.multiModel || !flags.mpi) && flags.world_size !== 1) {
    const flag = flags.multiModel ? '--multi-model' : '--no-mpi';
    throw new CliError('CLI_VALUE_INVALID', `--world_size must be 1 with ${flag}`);
  }
  if (!existsSync(flags.model_repo)) {
    throw new CliError('CLI_VALUE_INVALID', `--model_repo ${flags.model_repo} does not exist`);
  }
  for (const name of flags.tensorrt_llm_model_name?.split(',') ?? []) {
    if (existsSync(join(flags.model_repo, name))) continue;
    throw new CliError(
      'CLI_VALUE_INVALID',
      `--tensorrt_llm_model_name: ${flags.model_repo} has no model '${name}'`,
    );
  }
}

/** Every flag that does nothing says so. */
function notes(flags: LaunchFlags): string[] {
  const none: [boolean | undefined, string][] = [
    [flags.world_size > 1, '--world_size'],
    [flags.oversubscribe, '--oversubscribe'],
    [flags.disableSpawnProcesses, '--disable-spawn-processes'],
    [flags.trtllm_llmapi_launch, '--trtllm_llmapi_launch'],
  ];
  return none
    .filter(([isSet]) => isSet)
    .map(([, flag]) => `${flag} has no effect: there is no mpirun, and an engine starts its own ranks`);
}

/** The command line of the server. */
export function serveArguments(flags: LaunchFlags): string[] {
  return [
    ...(flags.tritonserver === undefined ? ['serve'] : []),
    `--model-repository=${flags.model_repo}`,
    `--grpc-port=${flags.grpc_port}`,
    `--http-port=${flags.http_port}`,
    `--metrics-port=${flags.metrics_port}`,
    ...(flags.exit_timeout === undefined ? [] : [`--drain-seconds=${flags.exit_timeout}`]),
    ...(flags.log ? ['--log-level=debug'] : []),
  ];
}

async function answers(port: number): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(probeTimeoutMs);
    const response = await fetch(`http://127.0.0.1:${port}/v2/health/live`, { signal });
    return response.status === 200;
  } catch {
    return false;
  }
}
