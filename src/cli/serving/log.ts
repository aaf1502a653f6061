import pino, { type Logger } from 'pino';

/** How log lines are written. */
export type LogFormat = 'human' | 'json';

/** Where lines go, and whether people read them there. */
export interface LogTarget {
  write(line: string): void;
  isTTY?: boolean;
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
    return pino({ level, base }, pino.destination({ dest: 2, sync: false }));
  }
  return pino({ level, base }, { write: (line) => process.stderr.write(humanLine(line)) });
}

/** Fields that stand in front, without their names. */
const leading: readonly string[] = ['method', 'path', 'status'];
/** Fields that say nothing to somebody who looks on. */
const left: readonly string[] = ['level', 'time', 'msg', 'route', 'frontEnd', ...leading];

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
