import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { byteTokenizer } from '../../../test/openai/byte-tokenizer.ts';
import { GrammarWalker } from '../../../test/support/grammar-walk.ts';
import { realWorldSchemas } from '../../../test/support/schemas.ts';
import { SeededRandom } from '../../base/random.ts';
import type { RuntimeError } from '../errors.ts';
import { choiceGrammar } from './grammar/choice.ts';
import { jsonSchemaGrammar } from './grammar/json-schema.ts';
import { regexGrammar } from './grammar/regex.ts';

const tokenizer = byteTokenizer();
const random = new SeededRandom(7);
/** NEREID_LONG=1: some hundred schemas, many texts each. */
const isLong = process.env.NEREID_LONG === '1';
const walkers: GrammarWalker[] = [];
after(() => Promise.all(walkers.map((walker) => walker.close())));

function walkerWith(options = {}): GrammarWalker {
  const walker = new GrammarWalker(tokenizer, options);
  walkers.push(walker);
  return walker;
}

describe('guidance', () => {
  test('masks are those of a brute-force search', async () => {
    const walker = walkerWith();
    const choices = Array.from({ length: 40 }, () =>
      Array.from(
        { length: 1 + Math.floor(random.next() * 5) },
        () => 'abc'[Math.floor(random.next() * 3)],
      ).join(''),
    );
    for (let round = 0; round < 10; round++) {
      const tokens: number[] = [];
      await walker.follow({ kind: 'grammar', source: choiceGrammar(choices) }, tokens, (allowed) => {
        const prefix = String.fromCharCode(...tokens);
        const next = choices.filter((choice) => choice.startsWith(prefix));
        const expected = new Set(
          next.map((choice) => (choice === prefix ? -1 : choice.charCodeAt(prefix.length))),
        );
        const isEnd = (token: number): boolean => tokenizer.stopTokenIds.includes(token);
        assert.deepEqual(
          new Set(allowed.map((token) => (isEnd(token) ? -1 : token))),
          expected,
          `behind '${prefix}'`,
        );
        return allowed[Math.floor(random.next() * allowed.length)];
      });
    }
  });

  test('every text of a schema parses and is valid by an independent validator', async () => {
    const walker = walkerWith();
    const ajv = new Ajv2020({ strict: false });
    addFormats.default(ajv);
    let finished = 0;
    for (const schema of realWorldSchemas(isLong ? 400 : 30)) {
      const validate = ajv.compile(schema);
      const source = jsonSchemaGrammar(schema);
      for (let count = 0; count < (isLong ? 8 : 2); count++) {
        const text = await walker.walk({ kind: 'grammar', source }, random, isLong ? 600 : 200);
        if (text === undefined) continue;
        finished++;
        const said = `${JSON.stringify(schema)} made ${text}`;
        assert.ok(validate(JSON.parse(text)), `${said}: ${ajv.errorsText(validate.errors)}`);
      }
    }
    assert.ok(finished > 10, `${finished} texts came to their end`);
  });

  test('texts of a regex match it', async () => {
    const walker = walkerWith();
    for (const source of [
      '[a-f0-9]{8}(-[a-f0-9]{4}){3}',
      '(yes|no|maybe so)!?',
      '\\d+(\\.\\d{2})?',
      '[^a-z\\s]{3}',
      'a|ab|abc|b+?',
    ]) {
      for (let count = 0; count < 3; count++) {
        const text = await walker.walk({ kind: 'grammar', source: regexGrammar(source) }, random, 80);
        if (text !== undefined) assert.match(text, new RegExp(`^(?:${source})$`, 'u'));
      }
    }
  });

  test('a grammar that takes too long is refused, its neighbours go on, and it is refused at once again', async () => {
    const walker = walkerWith({ operationTimeoutMs: 3_000, threadsMax: 1 });
    const good = { kind: 'grammar', source: 'root ::= [a-z] [0-9]' } as const;
    const hostile = {
      kind: 'grammar',
      source: `root ::= ${'('.repeat(4)}"a"${'{1,200})'.repeat(4)}`,
    } as const;
    assert.match((await walker.walk(good, random)) ?? '', /^[a-z][0-9]$/);
    const tokens: number[] = [];
    let trouble: Promise<unknown> | undefined;
    const isOver = await walker.follow(good, tokens, (allowed) => {
      trouble ??= walker.walk(hostile, random).catch((error: unknown) => error);
      return allowed[0];
    });
    assert.ok(isOver);
    // On a fast machine its memory is full before its time is over.
    const refusal = /^GRAMMAR_(TOO_SLOW|INVALID)$/;
    assert.match(((await trouble) as RuntimeError).code, refusal);
    const again = await walker.walk(hostile, random).catch((error: unknown) => error);
    assert.match((again as RuntimeError).code, refusal);
  });

  test('a grammar that cannot be compiled says why, and those behind it can', async () => {
    const walker = walkerWith({ keptGrammarsMax: 2 });
    for (let count = 0; count < 5; count++) {
      const broken = { kind: 'grammar', source: `root ::= missing${count}` } as const;
      await assert.rejects(walker.walk(broken, random), {
        code: 'GRAMMAR_INVALID',
        message: /missing\d" is not defined/,
      });
      const fine = { kind: 'grammar', source: `root ::= "${count}"` } as const;
      assert.equal(await walker.walk(fine, random), String(count));
    }
  });
});
