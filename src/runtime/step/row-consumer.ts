import type { StepOutput } from '../../device/step.ts';

/** Where in a step's output a row's results lie. */
export interface RowPlace {
  /** Output row. */
  row: number;
  /** Its row in `output.logits`; −1 if it asked for none. */
  logits: number;
  /** Its row in `output.logprobs`; −1 if it asked for none. */
  logprobs: number;
  /** Its row in `output.rowHidden`; −1 if it asked for none. */
  hidden: number;
}

/** What makes something of an output row: a token, a prompt's log-probability. */
export interface RowConsumer {
  /** Called once for each of its rows, when the step was collected, in order of rows. */
  take(output: StepOutput, place: RowPlace): void;
  /** Of a row that was put off: what it waited for is there. */
  resume?(): void;
}

/** Takes the output rows of a sequence's last known token and of the drafts behind it, in order. */
export interface DraftConsumer extends RowConsumer {
  /** Whether it chooses from logits, whatever the device could choose by itself. */
  readonly needsLogits: boolean;
}
