import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RepositoryError } from '../../repository/errors.ts';
import { jsonDepthMax, jsonNodesMax } from '../limits.ts';
import { type Json, parseJson, WrittenDouble } from './json-parser.ts';
import { asInteger, asUnsigned, doubleText } from './json-values.ts';

const parse = (text: string): Json => parseJson(Buffer.from(text));

function refusal(text: string): string {
  try {
    parse(text);
  } catch (error) {
    assert.ok(error instanceof RepositoryError);
    return `${error.status} ${error.message}`;
  }
  return 'none';
}

/** As JSON.parse would have it. */
function plain(value: Json): unknown {
  if (value instanceof Map)
    return Object.fromEntries([...value].map(([name, member]) => [name, plain(member)]));
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof WrittenDouble) return value.value;
  return typeof value === 'bigint' ? Number(value) : value;
}

describe('the JSON of requests', () => {
  test('every text that JSON.stringify writes is read as JSON.parse reads it', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
        const text = JSON.stringify(value);
        const sent = JSON.parse(text, (_key, inner) => (Object.is(inner, -0) ? 0 : inner));
        const got = JSON.parse(JSON.stringify(plain(parse(text))));
        assert.deepEqual(got, JSON.parse(JSON.stringify(sent)));
      }),
    );
  });

  test('any bytes are read or refused, with a status', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        try {
          parse(text);
        } catch (error) {
          assert.ok(error instanceof RepositoryError);
        }
      }),
    );
  });

  test('integers of 64 bits are exact; a written fraction is no integer', () => {
    assert.deepEqual(parse('[18446744073709551615,-9223372036854775808,9007199254740993]'), [
      2n ** 64n - 1n,
      -(2n ** 63n),
      2n ** 53n + 1n,
    ]);
    assert.throws(() => asInteger(parse('1.0')), /non-signed-integer/);
    assert.throws(() => asInteger(parse('18446744073709551615')), /non-signed-integer/);
    assert.throws(() => asUnsigned(parse('-1')), /non-unsigned-integer/);
    assert.ok(Number.isNaN(parse('NaN')));
    assert.equal(parse('-Infinity'), Number.NEGATIVE_INFINITY);
  });

  test('depth and count are bounded', () => {
    const deep = (levels: number): string => `${'['.repeat(levels)}${']'.repeat(levels)}`;
    assert.equal(refusal(deep(jsonDepthMax)), 'none');
    assert.match(refusal(deep(jsonDepthMax + 1)), /INVALID_ARGUMENT .* nests deeper than 100/);
    assert.match(refusal(deep(250_000)), /nests deeper/);
    assert.match(refusal(`[${'[],'.repeat(jsonNodesMax)}[]]`), /arrays, members and strings/);
  });

  test('texts of errors', () => {
    assert.equal(
      refusal(''),
      'INTERNAL failed to parse the request JSON buffer: The document is empty. at 0',
    );
    assert.equal(
      refusal('"é" 1'),
      'INTERNAL failed to parse the request JSON buffer: The document root must not be followed by other values. at 5',
    );
    assert.match(refusal('"\\ud800"'), /The surrogate pair in string is invalid/);
    assert.match(refusal('"abc'), /Missing a closing quotation mark in string. at 0/);
    assert.match(refusal('1e'), /Miss exponent/);
    assert.match(refusal('1e999'), /Number too big/);
  });

  test('doubles are written with a fraction or an exponent', () => {
    const texts = [1, 0.1, 1e21, 1e300, 1e-7, 1.5e-9, -0, 1e20].map(doubleText);
    assert.deepEqual(texts, [
      '1.0',
      '0.1',
      '1e21',
      '1e300',
      '1e-7',
      '1.5e-9',
      '-0.0',
      '100000000000000000000.0',
    ]);
  });
});
