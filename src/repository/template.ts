import { RepositoryError } from './errors.ts';

/** What a template's text became. */
export interface FilledTemplate {
  text: string;
  /** Placeholders that are still in it, each once. */
  unfilled: string[];
}

/** Keys that fill_template fills by itself. */
const builtIn: Readonly<Record<string, string>> = { max_queue_size: '0', max_queue_delay_microseconds: '0' };

/**
 * `fill_template.py`'s list: `key:value,key:value`. A comma splits pairs, the first colon a pair; a backslash keeps either as it is.
 * @throws RepositoryError INVALID_ARGUMENT for a pair without a colon, or with a second bare one
 */
export function parseSubstitutions(list: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const pair of splitUnescaped(list, ',')) {
    if (pair === '') continue;
    const parts = splitUnescaped(pair, ':');
    const [key, value] = parts;
    if (parts.length !== 2 || key === undefined || value === undefined) {
      const problem = parts.length > 2 ? 'more than one colon; write \\: for one in the value' : 'no colon';
      throw new RepositoryError('INVALID_ARGUMENT', `the substitution '${pair}' has ${problem}: key:value`);
    }
    values.set(unescaped(key), unescaped(value));
  }
  return values;
}

function splitUnescaped(text: string, separator: string): string[] {
  const parts: string[] = [''];
  for (let at = 0; at < text.length; at++) {
    const character = text[at] as string;
    if (character === '\\' && at + 1 < text.length) {
      parts.push(`${parts.pop()}${character}${text[++at]}`);
    } else if (character === separator) parts.push('');
    else parts.push(`${parts.pop()}${character}`);
  }
  return parts;
}

function unescaped(text: string): string {
  return text.replace(/\\([,:\\])/g, '$1');
}

const placeholder = /\$(?:\$|\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))/g;

/**
 * Fills `${key}` and `$key`. Those without a value stay as they are.
 * @throws RepositoryError INVALID_ARGUMENT for a key that the text does not hold, as fill_template
 */
export function fillTemplate(
  text: string,
  values: ReadonlyMap<string, string>,
  fileName: string,
): FilledTemplate {
  for (const key of values.keys()) {
    if (!text.includes(key)) {
      throw new RepositoryError('INVALID_ARGUMENT', `key '${key}' does not exist in the file ${fileName}`);
    }
  }
  const unfilled = new Set<string>();
  const filled = text.replace(placeholder, (whole: string, braced?: string, bare?: string) => {
    const key = braced ?? bare;
    if (key === undefined) return '$';
    const value = values.get(key) ?? (Object.hasOwn(builtIn, key) ? builtIn[key] : undefined);
    if (value !== undefined) return value;
    unfilled.add(key);
    return whole;
  });
  return { text: filled, unfilled: [...unfilled] };
}
