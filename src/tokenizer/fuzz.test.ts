import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { tinyByteLevel, tinySentencePiece } from '../../test/support/tokenizers.ts';
import { NereidError } from '../base/errors.ts';
import { tokenizerFilesFromGguf } from './gguf-to-files.ts';
import { JsonTokenizer } from './json-tokenizer.ts';

/** Every place in a JSON value, as a path; long lists and objects only by their first entries. */
function places(value: unknown, path: (string | number)[] = []): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [path];
  const keys = Array.isArray(value)
    ? [0, 1].filter((i) => i < value.length)
    : Object.keys(value).slice(0, 12);
  return [
    path,
    ...keys.flatMap((key) => places((value as Record<string | number, unknown>)[key], [...path, key])),
  ];
}

function replaced(value: unknown, [key, ...rest]: (string | number)[], replacement: unknown): unknown {
  if (key === undefined) return replacement;
  const copy = (Array.isArray(value) ? [...value] : { ...(value as object) }) as Record<
    string | number,
    unknown
  >;
  if (rest.length === 0 && replacement === undefined) delete copy[key];
  else copy[key] = replaced(copy[key], rest, replacement);
  return copy;
}

const junk = fc.constantFrom<unknown>(
  undefined,
  null,
  true,
  -1,
  0.5,
  2 ** 40,
  '',
  'x',
  '\ud800',
  '(',
  [],
  {},
  [null],
  [[]],
  { type: 'x' },
  { type: 'Sequence' },
);

for (const [name, vocabulary] of Object.entries({ tinyByteLevel, tinySentencePiece })) {
  const json: unknown = JSON.parse(tokenizerFilesFromGguf(vocabulary)['tokenizer.json']);
  const anywhere = fc.constantFrom(...places(json).filter((path) => path.length > 0));
  test(`a damaged tokenizer.json (${name}) is refused with a code or still encodes, and never throws anything else`, () => {
    fc.assert(
      fc.property(anywhere, junk, anywhere, junk, (path, value, secondPath, secondValue) => {
        let damaged = replaced(json, path, value);
        try {
          damaged = replaced(damaged, secondPath, secondValue);
        } catch {
          // The second place is gone with the first.
        }
        try {
          const tokenizer = new JsonTokenizer({ 'tokenizer.json': JSON.stringify(damaged) });
          tokenizer.decode(tokenizer.encode('hello <s> aab é🦜'));
        } catch (error) {
          assert.ok(error instanceof NereidError, String((error as Error).stack));
          assert.notEqual(error.code, 'ASSERTION_FAILED');
        }
      }),
      { numRuns: 1500 },
    );
  });

  test(`damaged GGUF metadata (${name}) is refused with a code or still encodes`, () => {
    const field = fc.constantFrom(...Object.keys(vocabulary));
    const value = fc.constantFrom<unknown>(undefined, [], [-5], ['x'], ['x y', 'y', ' '], -1, 1e9, 'x', '');
    fc.assert(
      fc.property(field, value, (key, junkValue) => {
        // The GGUF reader's getters answer for types; what is left is any value of the right one.
        const present = vocabulary[key as keyof typeof vocabulary];
        const kind = (one: unknown) => (Array.isArray(one) ? `list of ${typeof one[0]}` : typeof one);
        const isEmptyList = Array.isArray(junkValue) && junkValue.length === 0 && Array.isArray(present);
        if (junkValue !== undefined && !isEmptyList && kind(junkValue) !== kind(present)) return;
        try {
          const files = tokenizerFilesFromGguf({
            ...vocabulary,
            [key]: junkValue ?? (key === 'tokens' ? [] : undefined),
          });
          const tokenizer = new JsonTokenizer(files);
          tokenizer.decode(tokenizer.encode('hello <s> aab é🦜'));
        } catch (error) {
          assert.ok(error instanceof NereidError, String((error as Error).stack));
        }
      }),
      { numRuns: 400 },
    );
  });
}
