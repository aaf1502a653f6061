import { DeviceError } from '../errors.ts';

/** How the null device picks a token. */
export type NullMode =
  /** A hash of everything in the slot so far: reproducible, and different as soon as any earlier token differs. */
  | 'hash'
  /** The row's own token again. */
  | 'echo'
  /** The token of `script` at the new token's position, cyclically. */
  | 'script';

/** Who chooses among the candidates of a row that wants more than the likeliest one. */
export type NullSampling =
  /** The device, exactly as the reference device does. */
  | 'device'
  /** The host: the device can only pick the likeliest. */
  | 'host'
  /** Nobody: the likeliest is taken whatever was asked for, so that sampling costs the host nothing, as beside a GPU. */
  | 'none';

/** Settings of the null device; see docs/runtime.md. */
export interface NullOptions {
  mode: NullMode;
  /** Time of a step, and of each row in it on top; 0 and 0 answer at once, in the same tick. */
  stepMs: number;
  rowUs: number;
  /** Tokens to emit in `script` mode. */
  script: readonly number[];
  /** Ids that end a text; `hash` mode emits one with `eosChance` and never otherwise. */
  eosTokens: readonly number[];
  eosChance: number;
  /** Tokens a row that are possible at all: all others' logits are −Infinity. */
  candidates: number;
  sampling: NullSampling;
  /** Steps that may be in flight. */
  inFlightStepsMax: number;
}

const candidatesMax = 1024;
const inFlightStepsLimit = 16;

type Reader = (name: string, text: string) => Partial<NullOptions>;

const readers: Record<string, Reader> = {
  mode: (name, text) => {
    if (text === 'hash' || text === 'echo' || text === 'script') return { mode: text };
    throw invalid(name, text, 'hash, echo or script');
  },
  'step-ms': (name, text) => ({ stepMs: numberIn(name, text, 0, 3_600_000) }),
  'row-us': (name, text) => ({ rowUs: numberIn(name, text, 0, 1_000_000) }),
  script: (name, text) => ({ script: tokenList(name, text) }),
  'eos-tokens': (name, text) => ({ eosTokens: tokenList(name, text) }),
  'eos-chance': (name, text) => ({ eosChance: numberIn(name, text, 0, 1) }),
  candidates: (name, text) => ({ candidates: Math.floor(numberIn(name, text, 1, candidatesMax)) }),
  sampling: (name, text) => {
    if (text === 'device' || text === 'host' || text === 'none') return { sampling: text };
    throw invalid(name, text, 'device, host or none');
  },
  'steps-in-flight': (name, text) => ({
    inFlightStepsMax: Math.floor(numberIn(name, text, 1, inFlightStepsLimit)),
  }),
};

/** Names that `--device-option` takes for the null device. */
export const nullOptionNames = Object.keys(readers);

/**
 * Reads the null device's options from their text form.
 * @throws DeviceError `DEVICE_OPTION_INVALID` naming the option and what it takes
 */
export function parseNullOptions(texts: Readonly<Record<string, string>>): NullOptions {
  const options: NullOptions = {
    mode: 'hash',
    stepMs: 0,
    rowUs: 0,
    script: [],
    eosTokens: [],
    eosChance: 0,
    candidates: 16,
    sampling: 'device',
    inFlightStepsMax: 2,
  };
  for (const [name, text] of Object.entries(texts)) {
    const read = Object.hasOwn(readers, name) ? readers[name] : undefined;
    if (!read) throw invalid(name, text, `no option; known: ${nullOptionNames.join(', ')}`);
    Object.assign(options, read(name, text));
  }
  if (options.mode === 'script' && options.script.length === 0) {
    throw invalid('script', '', 'a list of token ids, e.g. 5,6,7, when mode is script');
  }
  if (options.eosChance > 0 && options.eosTokens.length === 0) {
    throw invalid('eos-chance', String(options.eosChance), 'used with eos-tokens=ID,…');
  }
  return options;
}

function invalid(name: string, text: string, takes: string): DeviceError {
  return new DeviceError('DEVICE_OPTION_INVALID', `null device option ${name}='${text}': must be ${takes}`);
}

function numberIn(name: string, text: string, low: number, high: number): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (!(value >= low && value <= high)) throw invalid(name, text, `a number from ${low} to ${high}`);
  return value;
}

function tokenList(name: string, text: string): number[] {
  return text.split(',').map((part) => {
    const value = numberIn(name, part, 0, 2 ** 31 - 1);
    if (!Number.isInteger(value)) throw invalid(name, text, 'a comma-separated list of token ids');
    return value;
  });
}
