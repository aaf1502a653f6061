import { DeviceError } from './errors.ts';
import { noTokenPossible, type StepBatch, type StepOutput } from './step.ts';

/**
 * Puts the tokens that the step before sampled in place of references to them (−1 − r for output row r), for devices whose tokens lie in
 * host memory.
 * @throws DeviceError DEVICE_BATCH_INVALID for a reference to a row that sampled none, or to a step that is not the one before
 */
export class SampledTokens {
  #serial = -1;
  #tokens: Int32Array = new Int32Array(0);

  /** Output rows that the next step may refer to. */
  get count(): number {
    return this.#tokens.length;
  }

  resolve({ tokens, serial }: StepBatch): Int32Array {
    if (!tokens.some((token) => token < 0)) return tokens;
    return tokens.map((token) => {
      if (token >= 0) return token;
      const sampled = serial === this.#serial + 1 ? this.#tokens[-1 - token] : undefined;
      if (sampled !== undefined && sampled >= 0) return sampled;
      // Its sequence is about to fail: what the row gives, nobody will look at.
      if (sampled === noTokenPossible) return 0;
      throw new DeviceError(
        'DEVICE_BATCH_INVALID',
        `step ${serial} takes the token of output row ${-1 - token}; step ${this.#serial} sampled ${sampled ?? 'no such row'}`,
      );
    });
  }

  keep(serial: number, output: StepOutput): void {
    this.#serial = serial;
    this.#tokens = output.tokens;
  }
}
