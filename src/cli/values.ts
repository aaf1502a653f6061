import { InvalidArgumentError } from 'commander';

/** An integer in [low, high], for commander's option parsers. */
export function integerOption(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && Number.isInteger(value) && value >= low && value <= high) return value;
    throw new InvalidArgumentError(`It takes an integer from ${low} to ${high}.`);
  };
}

/** A number in [low, high], for commander's option parsers. */
export function numberOption(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() !== '' && value >= low && value <= high) return value;
    throw new InvalidArgumentError(`It takes a number from ${low} to ${high}.`);
  };
}

/** A TCP port; 0 picks a free one. */
export const portOption = integerOption(0, 65_535);

const unitBytes: Record<string, number> = { '': 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12 };

/** Bytes of `2GB`, `500 MB`, `0`, for commander's option parsers. */
export function sizeOption(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)b?$/i.exec(text.trim());
  const unit = unitBytes[(match?.[2] ?? '').toLowerCase()];
  if (match && unit !== undefined) return Math.round(Number(match[1]) * unit);
  throw new InvalidArgumentError('It takes a size such as 500MB or 2GB.');
}

/** Gathers `name=value` of a repeatable option into a record, for commander's option parsers. */
export function keyValueOption(text: string, before: Record<string, string> = {}): Record<string, string> {
  const split = text.indexOf('=');
  if (split > 0) return { ...before, [text.slice(0, split)]: text.slice(split + 1) };
  throw new InvalidArgumentError('It takes name=value.');
}

/** One of some names, or `none`, for commander's option parsers. @param kind what they name */
export function nameOption(kind: string, names: readonly string[]): (text: string) => string {
  return (text) => {
    if (text === 'none' || names.includes(text)) return text;
    throw new InvalidArgumentError(`No ${kind} is called so; known: ${names.join(', ')}, none.`);
  };
}

/** Gathers a repeatable option into a list, for commander's option parsers. */
export function listOption(text: string, before: string[] = []): string[] {
  return [...before, text];
}

/** The items of a list separated by commas, without empty ones, for commander's option parsers. */
export function commaListOption(text: string): string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}
