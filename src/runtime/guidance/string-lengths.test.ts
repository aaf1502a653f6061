import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { byteTokenizer } from '../../../test/openai/byte-tokenizer.ts';
import { allowedBy, GrammarWalker } from '../../../test/support/grammar-walk.ts';
import { SeededRandom } from '../../base/random.ts';
import type { Tokenizer } from '../../tokenizer/types.ts';
import { jsonSchemaGrammar } from './grammar/json-schema.ts';
import type { Guide } from './guide.ts';
import { guidedDraftsMax, guideState } from './mask-board.ts';
import { boundsOf, tokenLengthMax } from './string-lengths.ts';

const bytes = byteTokenizer();
/** What tokens of real vocabularies look like, where strings begin, end and go on. */
const words = [
  ...[
    'abc',
    ' hello',
    'é',
    '😀',
    ' 世界',
    'a"',
    '",',
    '":',
    '"}',
    '\\n',
    '\\"',
    '\\u00',
    '00e9',
    'ab\\',
    '"a',
    '{"',
    ' "x',
  ],
  ...['x'.repeat(tokenLengthMax), 'y'.repeat(tokenLengthMax + 1), '\u0001', '"\\'],
];
const tokenizer: Tokenizer = Object.create(bytes, {
  vocabularySize: { value: bytes.vocabularySize + words.length },
  token: { value: (id: number) => words[id - bytes.vocabularySize] ?? bytes.token(id) },
  tokenBytes: { value: (id: number) => bytesOf(id) },
  isSpecial: { value: (id: number) => id < bytes.vocabularySize && bytes.isSpecial(id) },
  stopTokenIds: { value: bytes.stopTokenIds },
});

function bytesOf(id: number): Uint8Array {
  const word = words[id - bytes.vocabularySize];
  return word === undefined ? bytes.tokenBytes(id) : new Uint8Array(Buffer.from(word));
}

const walker = new GrammarWalker(tokenizer);
after(() => walker.close());

function guideOf(schema: Record<string, unknown>): Guide {
  return { kind: 'grammar', source: jsonSchemaGrammar(schema, { whitespace: 'none' }) };
}

const text = (tokens: readonly number[]): string =>
  Buffer.from(tokens.flatMap((token) => [...bytesOf(token)])).toString();

test('strings keep bounds that the grammar only marks, whatever their tokens', async () => {
  const random = new SeededRandom(5);
  const properties = {
    a: { type: 'string', maxLength: 40 },
    b: { type: 'string', minLength: 12, maxLength: 60 },
    c: { anyOf: [{ type: 'string', maxLength: 50 }, { type: 'integer' }] },
    d: { type: 'string', maxLength: 5 },
    e: { type: 'string' },
  };
  const guide = guideOf({
    type: 'object',
    properties,
    required: Object.keys(properties),
    additionalProperties: false,
  });
  assert.deepEqual(boundsOf(guide.source).sort(), [40, 50, 60]);
  let longest = 0;
  for (let round = 0; round < 25; round++) {
    const tokens: number[] = [];
    const isOver = await walker.follow(guide, tokens, (allowed) => {
      assert.ok(tokens.length < 3000);
      // Whole characters, and many of them, until all have been filled.
      const whole = allowed.filter((token) => token >= bytes.vocabularySize || token < 0x80);
      const ends = allowed.filter((token) => token < bytes.vocabularySize && text([token]) === '"');
      const pool = ends.length > 0 && random.next() < 0.04 ? ends : whole;
      return (pool.length > 0 ? pool : allowed)[random.integer((pool.length > 0 ? pool : allowed).length)];
    });
    assert.ok(isOver);
    const value = JSON.parse(text(tokens)) as Record<string, string>;
    for (const [name, { minLength = 0, maxLength = 1e9 }] of Object.entries(properties) as [
      string,
      { minLength?: number; maxLength?: number },
    ][]) {
      if (typeof value[name] !== 'string') continue;
      const { length } = [...value[name]];
      const bound = name === 'c' ? 50 : maxLength;
      assert.ok(length >= minLength && length <= bound, `${name} has ${length} characters: ${value[name]}`);
      if (name === 'b') longest = Math.max(longest, length);
    }
  }
  assert.ok(longest > 50, `bounds were met: ${longest}`);
});

test('what may follow drafts is what follows them when they are said, and nothing else has changed', async () => {
  const random = new SeededRandom(9);
  const guide = guideOf({
    type: 'array',
    items: {
      type: 'object',
      properties: { name: { type: 'string', maxLength: 40 }, age: { type: 'integer' } },
      required: ['name', 'age'],
      additionalProperties: false,
    },
    minItems: 2,
    maxItems: 2,
  });
  const { guidance } = walker;
  const said: number[] = [];
  await walker.follow(guide, said, (allowed) => allowed[random.integer(allowed.length)]);
  const lease = guidance.lease(guide, tokenizer.stopTokenIds);
  const plain = lease.open(() => new Int32Array(0));
  const drafting = lease.open(() => new Int32Array(0));
  const look = (own: typeof plain) => {
    guidance.flush();
    assert.ok(own.wait(60_000));
    return {
      state: own.state,
      allowed: own.state === guideState.mask ? allowedBy(own.mask, tokenizer.vocabularySize) : [],
    };
  };
  try {
    assert.deepEqual(look(drafting), look(plain));
    for (let at = 0; at < said.length; ) {
      const drafts = said.slice(at, at + 1 + random.integer(guidedDraftsMax));
      const right = random.integer(3) === 0 ? random.integer(drafts.length) : drafts.length;
      // From there on they are wrong: nothing says a mark.
      drafts.fill(1, right);
      drafting.foresee(drafts);
      for (let index = 0; index < Math.min(right + 1, said.length - at); index++) {
        assert.deepEqual(look(drafting), look(plain), `behind ${text(said.slice(0, at + index))}`);
        drafting.accept(said[at + index] as number);
        plain.accept(said[at + index] as number);
      }
      at += Math.min(right + 1, said.length - at);
    }
    assert.deepEqual(look(drafting), look(plain));
  } finally {
    plain.close();
    drafting.close();
    lease.release();
    guidance.flush();
  }
});
