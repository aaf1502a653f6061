import { type Clock, systemClock } from '../base/clock.ts';

/** So many units a minute, evenly refilled; at most a minute's worth is saved up. */
export class TokenBucket {
  readonly perMinute: number;
  readonly #clock: Clock;
  #level: number;
  #filledNs: number;

  constructor(perMinute: number, clock: Clock = systemClock) {
    this.perMinute = perMinute;
    this.#clock = clock;
    this.#level = perMinute;
    this.#filledNs = clock.nowNs();
  }

  /** Units that may be taken now; below 0 after {@link take} took more than there was. */
  get level(): number {
    const nowNs = this.#clock.nowNs();
    this.#level = Math.min(this.perMinute, this.#level + ((nowNs - this.#filledNs) / 60e9) * this.perMinute);
    this.#filledNs = nowNs;
    return this.#level;
  }

  /** Takes units, also more than there are: what was used is known only afterwards. */
  take(units: number): void {
    this.#level = this.level - units;
  }

  /** Seconds until so many units can be taken. */
  secondsUntil(units: number): number {
    return Math.max(0, ((units - this.level) / this.perMinute) * 60);
  }
}
