import type { Reporter } from '../builder/reporter.ts';

/** How often a bar is drawn, and how often a line is printed where there is no terminal. */
const drawEveryMs = 100;
const printEveryMs = 5000;
const barWidth = 24;
/** Rates are averaged over about this long, so the ETA neither jumps nor lags. */
const rateWindowMs = 4000;

/** Where progress is shown and what time it is; defaults for people, others for tests. */
export interface ProgressOptions {
  stream?: NodeJS.WriteStream;
  /** Monotonic milliseconds. */
  nowMs?: () => number;
}

/**
 * Progress for people, on stderr: on a terminal a bar with rate and ETA that is drawn over, elsewhere a plain line every few seconds
 * (logs and CI stay readable).
 */
export function createProgress(options: ProgressOptions = {}): Reporter {
  return new ProgressReporter(options.stream ?? process.stderr, options.nowMs ?? (() => performance.now()));
}

interface Phase {
  label: string;
  totalBytes: number;
  doneBytes: number;
  startMs: number;
  shownMs: number;
  /** Exponentially averaged bytes a millisecond. */
  rate: number;
  sampleMs: number;
  sampleBytes: number;
}

class ProgressReporter implements Reporter {
  readonly #stream: NodeJS.WriteStream;
  readonly #nowMs: () => number;
  #phase: Phase | undefined;
  #drawn = false;

  constructor(stream: NodeJS.WriteStream, nowMs: () => number) {
    this.#stream = stream;
    this.#nowMs = nowMs;
  }

  start(label: string, totalBytes: number): void {
    this.finish();
    const now = this.#nowMs();
    const zero = { doneBytes: 0, rate: 0, sampleBytes: 0 };
    this.#phase = { label, totalBytes, startMs: now, shownMs: now, sampleMs: now, ...zero };
  }

  advance(bytes: number): void {
    const phase = this.#phase;
    if (!phase) return;
    phase.doneBytes += bytes;
    const now = this.#nowMs();
    if (now - phase.shownMs < (this.#stream.isTTY ? drawEveryMs : printEveryMs)) return;
    phase.shownMs = now;
    updateRate(phase, now);
    if (this.#stream.isTTY) this.#draw(barLine(phase));
    else this.#stream.write(`${plainLine(phase)}\n`);
  }

  finish(): void {
    const phase = this.#phase;
    if (!phase) return;
    this.#phase = undefined;
    this.#clear();
    const seconds = (this.#nowMs() - phase.startMs) / 1000;
    const rate = seconds > 0 ? `, ${formatBytes(phase.doneBytes / seconds)}/s` : '';
    this.#stream.write(`${phase.label}: ${formatBytes(phase.doneBytes)} in ${seconds.toFixed(1)} s${rate}\n`);
  }

  note(line: string): void {
    this.#clear();
    this.#stream.write(`${line}\n`);
  }

  #draw(line: string): void {
    const columns = this.#stream.columns ?? 80;
    this.#stream.write(`\r\x1b[K${line.slice(0, columns - 1)}`);
    this.#drawn = true;
  }

  #clear(): void {
    if (this.#drawn) this.#stream.write('\r\x1b[K');
    this.#drawn = false;
  }
}

function updateRate(phase: Phase, now: number): void {
  const elapsedMs = now - phase.sampleMs;
  if (elapsedMs <= 0) return;
  const current = (phase.doneBytes - phase.sampleBytes) / elapsedMs;
  const weight = phase.rate === 0 ? 1 : 1 - Math.exp(-elapsedMs / rateWindowMs);
  phase.rate += weight * (current - phase.rate);
  phase.sampleMs = now;
  phase.sampleBytes = phase.doneBytes;
}

function shareOf(phase: Phase): number {
  return phase.totalBytes > 0 ? Math.min(1, phase.doneBytes / phase.totalBytes) : 1;
}

function barLine(phase: Phase): string {
  const share = shareOf(phase);
  const filled = Math.round(share * barWidth);
  const bar = '█'.repeat(filled) + '░'.repeat(barWidth - filled);
  return `${phase.label} ${bar} ${details(phase, share)}`;
}

function plainLine(phase: Phase): string {
  return `${phase.label}: ${details(phase, shareOf(phase))}`;
}

function details(phase: Phase, share: number): string {
  const left = Math.max(0, phase.totalBytes - phase.doneBytes);
  const eta = phase.rate > 0 ? `, ETA ${formatSeconds(left / phase.rate / 1000)}` : '';
  const amount = `${formatBytes(phase.doneBytes)} of ${formatBytes(phase.totalBytes)}`;
  return `${Math.floor(share * 100)}%, ${amount}, ${formatBytes(phase.rate * 1000)}/s${eta}`;
}

/** Bytes in decimal units, three digits at most: 98.4 MB. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** Seconds as people say them: 8 s, 3 min 20 s, 2 h 5 min. */
export function formatSeconds(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
