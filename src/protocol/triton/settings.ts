import { RepositoryError } from '../../repository/errors.ts';

function refuse(message: string): never {
  throw new RepositoryError('INVALID_ARGUMENT', message);
}

/** What can be set of logs while the server runs, in the order that it is shown. */
export interface LogSettings {
  log_file: string;
  log_info: boolean;
  log_warning: boolean;
  log_error: boolean;
  log_verbose_level: number;
  log_format: 'default' | 'ISO8601';
}

export const logSwitches = ['log_info', 'log_warning', 'log_error'] as const;

/** One setting of traces, as texts; a null goes back to the default (of a model: to the global one). */
export type TraceUpdate = ReadonlyMap<string, readonly string[] | null>;

const traceDefaults = {
  trace_level: ['OFF'],
  trace_rate: ['1000'],
  trace_count: ['-1'],
  log_frequency: ['0'],
  trace_file: [''],
  trace_mode: ['triton'],
} as const satisfies Record<string, readonly string[]>;

type TraceName = keyof typeof traceDefaults;
type TraceValues = Partial<Record<TraceName, readonly string[]>>;

const minimums: Readonly<Partial<Record<TraceName, number>>> = {
  trace_rate: 0,
  trace_count: -1,
  log_frequency: 0,
};

/** Models whose own trace settings are kept. */
export const tracedModelsMax = 1024;

/** Trace settings, global and by model, with tritonserver's checks. No trace file can be named over the network, so no level can be on. */
export class TraceSettings {
  #global: TraceValues = {};
  readonly #models = new Map<string, TraceValues>();

  /** All settings of a model, or with '' the global ones. */
  of(modelName: string): Record<TraceName, readonly string[]> {
    return { ...traceDefaults, ...this.#global, ...(this.#models.get(modelName) ?? {}) };
  }

  /**
   * @param got how the protocol ends "got:" in one of its texts
   * @throws RepositoryError in tritonserver's words; nothing is changed then
   */
  update(modelName: string, update: TraceUpdate, got = 'got: '): void {
    const next: TraceValues = { ...(modelName === '' ? this.#global : this.#models.get(modelName)) };
    for (const [name, values] of update) {
      if (!Object.hasOwn(traceDefaults, name)) continue;
      const known = name as TraceName;
      if (known === 'trace_file') {
        const message = 'trace file location can not be updated through network protocol';
        throw new RepositoryError('UNSUPPORTED', message);
      }
      if (values === null) delete next[known];
      else next[known] = checked(known, values, got);
    }
    if (modelName === '') this.#global = next;
    else if (this.#models.has(modelName) || this.#models.size < tracedModelsMax)
      this.#models.set(modelName, next);
    else
      throw new RepositoryError(
        'UNAVAILABLE',
        `${tracedModelsMax} models have trace settings of their own already`,
      );
  }
}

function checked(name: TraceName, values: readonly string[], got: string): readonly string[] {
  if (name === 'trace_level') return checkedLevels(values);
  const minimum = minimums[name];
  if (minimum === undefined) return traceDefaults[name];
  if (values.length > 1) refuse(`expect only 1 value for '${name}'`);
  const text = values[0] ?? '';
  const value = Number(text);
  if (!/^[+-]?\d+$/.test(text.trim())) refuse(`Unable to parse '${name}', got: ${text}`);
  if (name === 'trace_count' && value < minimum) {
    refuse(`Unable to parse 'trace_count'. Expecting value >= -1, ${got}${text}`);
  }
  if (value < minimum || value > 2 ** 31 - 1) {
    refuse(`Unable to parse '${name}', value is out of range [ ${minimum}, ${2 ** 31 - 1} ], got: ${text}`);
  }
  return [String(value)];
}

function checkedLevels(values: readonly string[]): readonly string[] {
  if (values.includes('OFF') && values.length > 1) refuse("Expect only one trace level 'OFF' is specified");
  if (values.some((value) => value === 'TIMESTAMPS' || value === 'TENSORS')) {
    refuse('Attempting to set invalid trace setting :trace file name is not given');
  }
  return ['OFF'];
}

/** The default of {@link LogSettings}. */
export function defaultLogSettings(): LogSettings {
  return {
    log_file: '',
    log_info: true,
    log_warning: true,
    log_error: true,
    log_verbose_level: 0,
    log_format: 'default',
  };
}
