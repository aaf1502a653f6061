import assert from 'node:assert/strict';
import { test } from 'node:test';
import { requestOf } from '../../../test/support/engine-simulator.ts';
import { draftTokensMax } from '../speculation/governor.ts';
import type { GenerationRequest } from './request.ts';
import { draftLogitsMax, draftTokensPerRequestMax, validateRequest } from './validate.ts';

const engine = {
  ...{ vocabularySize: 100, contextLength: 64, kvBytesMax: 1e6, sequencesMax: 4, batchTokensMax: 64 },
  ...{ kvBytesPerPosition: 1, hiddenWidth: 16 },
};

function refusal(changes: Partial<GenerationRequest>): string {
  try {
    validateRequest(requestOf({ id: 0, ...changes }), engine as never);
    return 'nothing';
  } catch (thrown) {
    return (thrown as Error).message;
  }
}

test('drafts that a request brings: their number, logits for each, and a threshold between 0 and 1', () => {
  const tokens = Int32Array.of(1, 2);
  const logits = new Float32Array(200);
  assert.equal(refusal({ draft: { tokens, logits, threshold: 0.5 } }), 'nothing');
  assert.match(refusal({ draft: { tokens: new Int32Array(draftTokensPerRequestMax + 1) } }), /draft.tokens/);
  assert.match(refusal({ draft: { tokens, logits: new Float32Array(draftLogitsMax + 1) } }), /draft.logits/);
  assert.match(
    refusal({ draft: { tokens, logits: new Float32Array(199) } }),
    /199 values for 2 drafts; a row of 100/,
  );
  assert.match(refusal({ draft: { tokens, logits, threshold: 1.5 } }), /draft.threshold is 1.5/);
  assert.match(refusal({ draft: { tokens, threshold: 0.5 } }), /draft.threshold compares draft.logits/);
});

test('what a request says of guessing', () => {
  assert.equal(
    refusal({ speculation: { draftsMax: draftTokensMax, lookup: { max: 4, min: 1 } } }),
    'nothing',
  );
  assert.match(refusal({ speculation: { draftsMax: draftTokensMax + 1 } }), /speculation.draftsMax is 33/);
  assert.match(refusal({ speculation: { lookup: { max: 17, min: 1 } } }), /speculation.lookup.max is 17/);
  assert.match(refusal({ speculation: { lookup: { max: 2, min: 3 } } }), /speculation.lookup.min is 3/);
});
