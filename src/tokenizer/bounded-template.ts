import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';

/** Expressions and statements one rendering may evaluate; a chat of a thousand messages takes about 100,000. */
export const templateStepsMax = 5_000_000;
/** Wall-clock time one rendering may take, for what steps do not count (loops without a body). */
export const templateTimeMs = 5_000;
/** Longest string (UTF-16 units) or list that a template may make. */
export const templateValueLengthMax = 16 * 1024 * 1024;
/** Longest `range()`. */
export const templateRangeMax = 10_000;

/** Steps between two looks at the clock. */
const stepsPerClockLook = 64;

/** Thrown through the interpreter when a template passes a limit. */
export class TemplateLimitError extends Error {}

interface RuntimeValue {
  readonly value: unknown;
}

/** What is used of the library's interpreter. Its declarations import without suffixes, which TypeScript's nodenext cannot follow. */
interface InterpreterLike {
  evaluate(statement: unknown, environment: unknown): RuntimeValue;
  run(program: unknown): RuntimeValue;
}
const LibraryInterpreter = Interpreter as unknown as new (environment: unknown) => InterpreterLike;

/** The library's interpreter with limits, so that a hostile template ends in an error and not in a hung server. */
class BoundedInterpreter extends LibraryInterpreter {
  #steps = 0;
  readonly #deadlineMs = performance.now() + templateTimeMs;

  override evaluate(statement: unknown, environment: unknown): RuntimeValue {
    this.#steps++;
    if (this.#steps > templateStepsMax)
      throw new TemplateLimitError(`it took more than ${templateStepsMax} steps`);
    if (this.#steps % stepsPerClockLook === 0 && performance.now() > this.#deadlineMs)
      throw new TemplateLimitError(`it took more than ${templateTimeMs} ms`);
    const result = super.evaluate(statement, environment);
    const { value } = result;
    if ((typeof value === 'string' || Array.isArray(value)) && value.length > templateValueLengthMax)
      throw new TemplateLimitError(`it made a value longer than ${templateValueLengthMax}`);
    return result;
  }
}

/** Python's `range`, bounded. */
function range(first: number, end?: number, step = 1): number[] {
  const [start, stop] = end === undefined ? [0, first] : [first, end];
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= templateRangeMax))
    throw new TemplateLimitError(`it took more than ${templateRangeMax} steps in a range()`);
  return Array.from({ length }, (_, i) => start + i * step);
}

const globals = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  range,
  raise_exception: (message: unknown) => {
    throw new Error(String(message));
  },
};

/** A parsed Jinja template. Throws the library's SyntaxError for a broken one. */
export class BoundedTemplate {
  readonly #program: unknown;

  constructor(source: string) {
    this.#program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
  }

  /** @throws TemplateLimitError, and whatever the template raises */
  render(variables: Readonly<Record<string, unknown>>): string {
    const environment = new Environment();
    for (const [name, value] of Object.entries({ ...variables, ...globals })) environment.set(name, value);
    return String(new BoundedInterpreter(environment).run(this.#program).value);
  }
}
