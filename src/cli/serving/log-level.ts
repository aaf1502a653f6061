import { CliError } from '../errors.ts';

/** Levels of `--log-level`, from none to most. */
export const logLevels = ['silent', 'error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof logLevels)[number];

/** gRPC's and TensorRT-LLM's names for the levels, in lower case. */
const grpcLevels: Readonly<Record<string, LogLevel>> = {
  none: 'silent',
  error: 'error',
  info: 'info',
  debug: 'debug',
};
const tensorRtLlmLevels: Readonly<Record<string, LogLevel>> = {
  internal_error: 'error',
  error: 'error',
  warning: 'warn',
  info: 'info',
  verbose: 'debug',
  debug: 'debug',
  trace: 'debug',
};

/**
 * The level that the environment asks for, where the command line says none: NEREID_LOG_LEVEL, else GRPC_VERBOSITY, else
 * TLLM_LOG_LEVEL, as Briton has them; `info` where none is set.
 * @throws CliError CLI_VALUE_INVALID for a NEREID_LOG_LEVEL that is none; the other two are others' variables, and theirs to check
 */
export function logLevelFrom(environment: NodeJS.ProcessEnv): LogLevel {
  const own = environment.NEREID_LOG_LEVEL?.toLowerCase();
  if (own) {
    const level = logLevels.find((one) => one === own);
    if (level) return level;
    throw new CliError('CLI_VALUE_INVALID', `NEREID_LOG_LEVEL is '${own}'; it takes ${logLevels.join(', ')}`);
  }
  return (
    grpcLevels[environment.GRPC_VERBOSITY?.toLowerCase() ?? ''] ??
    tensorRtLlmLevels[environment.TLLM_LOG_LEVEL?.toLowerCase() ?? ''] ??
    'info'
  );
}
