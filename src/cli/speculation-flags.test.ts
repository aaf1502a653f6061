import assert from 'node:assert/strict';
import { test } from 'node:test';
import { speculationChoice } from './speculation-flags.ts';

const config = (value: unknown) => speculationChoice({ speculativeConfig: JSON.stringify(value) });

test('a draft model, n-gram lookup, or neither', () => {
  assert.equal(speculationChoice({}), undefined);
  assert.equal(speculationChoice({ speculation: 'none' }), undefined);
  assert.deepEqual(speculationChoice({ draftModel: 'd', numSpeculativeTokens: 4 }), {
    method: 'draft-model',
    draftModel: 'd',
    draftsMax: 4,
  });
  assert.equal(speculationChoice({ speculation: 'ngram' })?.method, 'ngram');
});

test("vLLM's JSON says the same", () => {
  assert.deepEqual(config({ method: 'ngram', num_speculative_tokens: 5, prompt_lookup_max: 3 }), {
    method: 'ngram',
    draftsMax: 5,
    lengths: { max: 3, min: 2 },
  });
  assert.equal(config({ model: 'd' })?.method, 'draft-model');
  assert.deepEqual(config({ method: 'eagle', model: 'h' }), {
    method: 'draft-head',
    draftHead: 'h',
    draftsMax: undefined,
  });
  assert.deepEqual(config({ method: 'ngram', prompt_lookup_max: 1 })?.lengths, { max: 1, min: 1 });
});

test('what contradicts itself or is not known is refused by name', () => {
  const refused: [() => unknown, RegExp][] = [
    [() => speculationChoice({ draftModel: 'd', speculation: 'ngram' }), /exclude each other/],
    [() => speculationChoice({ numSpeculativeTokens: 3 }), /needs --draft-model/],
    [() => speculationChoice({ draftModel: 'd', speculativeConfig: '{}' }), /not both/],
    [() => speculationChoice({ speculativeConfig: '[' }), /no JSON object/],
    [() => config({ method: 'medusa' }), /the method 'medusa'; known: ngram, draft_model, eagle/],
    [() => config({ method: 'eagle' }), /needs a 'model' for the method eagle/],
    [() => speculationChoice({ draftModel: 'd', draftHead: 'h' }), /--draft-head exclude each other/],
    [
      () => speculationChoice({ draftHead: 'h', speculation: 'ngram' }),
      /--draft-head and --speculation ngram/,
    ],
    [() => config({ method: 'draft_model' }), /needs a 'model'/],
    [() => config({ quantization: 'x' }), /has 'quantization'; known/],
    [() => config({ num_speculative_tokens: 33 }), /from 1 to 32/],
    [() => config({ prompt_lookup_max: 2, prompt_lookup_min: 3 }), /is over prompt_lookup_max/],
  ];
  for (const [run, message] of refused) assert.throws(run, message);
});
