import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { packageRoot } from '../../src/base/entry.ts';
import { Engine } from '../../src/engine.ts';
import { realWorldSchemas } from '../support/schemas.ts';

/**
 * A real model at temperature 1.0, whatever it would like to say: every answer that came to its end parses, and is valid by an independent validator.
 * NEREID_LONG=1: some hundred schemas, and several answers each.
 */
const isLong = process.env.NEREID_LONG === '1';
const schemas = realWorldSchemas(isLong ? 400 : 12);
const answersEach = isLong ? 4 : 2;
const maxTokens = isLong ? 400 : 100;

const cache = mkdtempSync(join(packageRoot, '.cache-validity-'));
let engine: Engine;
before(async () => {
  process.env.NEREID_CACHE = cache;
  engine = await Engine.open('nereid-16m', { threads: 1, maxSequences: 16, contextLength: 512 });
});
after(async () => {
  await engine?.close();
  rmSync(cache, { recursive: true, force: true });
});

/** An answer's texts that ended by themselves. */
async function finishedTexts(schema: object, seed: number): Promise<string[]> {
  const messages = [{ role: 'user', content: `Write JSON about ${Object.keys(schema).join(' and ')}.` }];
  const guide = { kind: 'json_schema', schema } as const;
  const asked = { temperature: 1, seed, sequences: answersEach, maxTokens, guide };
  const texts: string[] = [];
  const finished: string[] = [];
  for await (const { sequence, text, finish } of engine.chat(messages, asked)) {
    texts[sequence] = (texts[sequence] ?? '') + text;
    if (finish === 'stop') finished.push(texts[sequence] as string);
  }
  return finished;
}

test(`${schemas.length} schemas at temperature 1: what is finished is valid`, async () => {
  const ajv = new Ajv2020({ strict: false });
  addFormats.default(ajv);
  let finished = 0;
  const check = async (schema: object, seed: number): Promise<void> => {
    const validate = ajv.compile(schema);
    for (const text of await finishedTexts(schema, seed)) {
      finished++;
      const said = `${JSON.stringify(schema)} made ${text}`;
      assert.ok(validate(JSON.parse(text)), `${said}: ${ajv.errorsText(validate.errors)}`);
    }
  };
  const inFlight = 8;
  for (let first = 0; first < schemas.length; first += inFlight) {
    const some = schemas.slice(first, first + inFlight);
    await Promise.all(some.map((schema, index) => check(schema, first + index)));
  }
  const share = finished / (schemas.length * answersEach);
  console.log(`${finished} of ${schemas.length * answersEach} answers came to their end, all valid`);
  assert.ok(share > 0.4, `enough to say something: ${share}`);
});
