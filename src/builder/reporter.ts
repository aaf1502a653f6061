/** Whom long work tells how it goes. The command line draws a bar; a library user may ignore it. */
export interface Reporter {
  /** Begins a phase of so many bytes; ends the one before. */
  start(label: string, totalBytes: number): void;
  advance(bytes: number): void;
  /** Ends the current phase. */
  finish(): void;
  /** A line that should stay readable: a decision that the user may want to know. */
  note(line: string): void;
}

/** Says nothing. */
export const silentReporter: Reporter = {
  start() {},
  advance() {},
  finish() {},
  note() {},
};
