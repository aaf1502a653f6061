import { messageOf, NereidError } from '../base/errors.ts';

/** Exit statuses of `bin/nereid`; documented in docs/cli.md. */
export const exitCodes = {
  ok: 0,
  /** The command ran and failed. */
  failure: 1,
  /** The command line was wrong: unknown command or option, missing or bad value. Nothing was done. */
  usage: 2,
  /** Ctrl-C (128 + SIGINT), as shells expect. */
  interrupted: 130,
} as const;

/** The command line asks for something that cannot be. */
export class CliError extends NereidError {
  /** True where the command line itself is wrong: exit status 2 instead of 1. */
  readonly usage: boolean;

  constructor(code: string, message: string, options?: { cause?: unknown; usage?: boolean }) {
    super(code, 'invalid', message, options);
    this.usage = options?.usage ?? true;
  }
}

/** Whether `--verbose` or NEREID_DEBUG=1 asks for stack traces. */
export function isVerbose(argv: readonly string[] = process.argv): boolean {
  return process.env.NEREID_DEBUG === '1' || argv.includes('--verbose');
}

/** The one line that a failed command prints: `nereid: message [CODE]`. Line breaks inside messages become spaces. */
export function errorLine(thrown: unknown): string {
  const code = thrown instanceof NereidError ? ` [${thrown.code}]` : systemCode(thrown);
  const text = messageOf(thrown)
    .replaceAll(/\s*\n\s*/g, ' ')
    .trim();
  return `nereid: ${text}${code}`;
}

function systemCode(thrown: unknown): string {
  if (thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string')
    return ` [${thrown.code}]`;
  return '';
}

/** Prints an error for people (the stack with `--verbose`) and returns the exit status that it means. */
export function reportError(thrown: unknown): number {
  process.stderr.write(`${errorLine(thrown)}\n`);
  if (isVerbose()) {
    for (let error: unknown = thrown; error instanceof Error; error = error.cause) {
      process.stderr.write(`${error === thrown ? '' : 'caused by: '}${error.stack ?? error.message}\n`);
    }
  } else if (!(thrown instanceof NereidError)) {
    process.stderr.write('nereid: run again with --verbose for the stack trace\n');
  }
  return thrown instanceof CliError && thrown.usage ? exitCodes.usage : exitCodes.failure;
}
