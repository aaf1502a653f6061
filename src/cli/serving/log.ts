import pino, { type Logger } from 'pino';

/** How log lines are written. */
export type LogFormat = 'human' | 'json';

/** Where lines go, and whether people read them there. */
export interface LogTarget {
  write(line: string): void;
  isTTY?: boolean;
}

/**
 * What cannot be written to standard output or error (the disk under the log is full, its reader is gone) is lost, and nothing else: files are
 * written at once, so that every line in the program could throw.
 */
export function surviveLostOutput(): void {
  for (const stream of [process.stdout, process.stderr]) {
    const write = stream.write.bind(stream) as (...parts: unknown[]) => boolean;
    stream.write = (...parts: unknown[]): boolean => {
      try {
        return write(...parts);
      } catch {
        return true;
      }
    };
    stream.on('error', () => {});
  }
}

/** JSON where a program reads, lines for people on a terminal. */
export function logFormatOf(asked: LogFormat | undefined, target: LogTarget): LogFormat {
  return asked ?? (target.isTTY ? 'human' : 'json');
}

/** The server's log, on standard error. */
export function createLogger(
  options: { logLevel: string; logFormat?: LogFormat },
  base?: Record<string, unknown>,
): Logger {
  const { logLevel: level } = options;
  if (logFormatOf(options.logFormat, process.stderr) === 'json') {
    return pino({ level, base }, lossyDestination());
  }
  return pino({ level, base }, { write: (line) => process.stderr.write(humanLine(line)) });
}

/** Fields that stand in front, without their names. */
const leading: readonly string[] = ['method', 'path', 'status'];
/** Fields that say nothing to somebody who looks on. */
const left: readonly string[] = ['level', 'time', 'msg', 'route', 'frontEnd', ...leading];

/** Bytes of lines that may wait to be written; those beyond are lost. */
const waitingLogBytesMax = 16 * 1024 * 1024;

/** Standard error, written off the event loop. A full disk under it costs lines, not the server. */
function lossyDestination(): ReturnType<typeof pino.destination> {
  const destination = pino.destination({ dest: 2, sync: false, maxLength: waitingLogBytesMax });
  const flushSync = destination.flushSync.bind(destination);
  let isFailing = false;
  destination.on('error', () => {
    isFailing = true;
  });
  destination.on('write', () => {
    isFailing = false;
  });
  // At the process's end it would try for ever.
  destination.flushSync = () => {
    if (!isFailing) flushSync();
  };
  return destination;
}

/** `19:05:02 request POST /v1/completions 200 duration_ms=34 …`: pino's line for people. */
export function humanLine(line: string): string {
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(line);
  } catch {
    return line;
  }
  const time = new Date(Number(fields.time)).toTimeString().slice(0, 8);
  const level = Number(fields.level) >= 50 ? 'error: ' : Number(fields.level) >= 40 ? 'warning: ' : '';
  const first = leading.map((name) => fields[name]).filter((value) => value !== undefined);
  const rest = Object.entries(fields)
    .filter(([name]) => !left.includes(name))
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return `${[time, `${level}${fields.msg ?? ''}`, ...first, ...rest].join(' ')}\n`;
}
