import assert from 'node:assert/strict';
import type { SeededRandom } from '../../src/base/random.ts';
import type { GenerationRequest } from '../../src/runtime/requests/request.ts';
import type { Sequence } from '../../src/runtime/sequences/sequence.ts';
import type { Drafter } from '../../src/runtime/speculation/drafter.ts';
import type { SpeculationOptions } from '../../src/runtime/speculation/speculation.ts';

/** Tokens of every request's sequences, by id: what they say alone. */
type Truths = ReadonlyMap<number, readonly { tokens: readonly number[] }[]>;

/** Drafts that are mostly right, from a drafter (with or without the model's hidden states) or with the requests; or none. */
export function simulatedDrafts(
  random: SeededRandom,
  requests: readonly GenerationRequest[],
  truths: Truths,
): SpeculationOptions {
  const guess = (tokens: readonly number[], count: number): number[] =>
    tokens.slice(0, count).map((token) => (random.integer(5) === 0 ? random.integer(900) : token));
  for (const request of requests) {
    const tokens = truths.get(request.id)?.[0]?.tokens ?? [];
    if (request.beams || request.maxTokens === 0) continue;
    if (random.integer(6) === 0 && tokens.length > 0) {
      request.draft = { tokens: Int32Array.from(guess(tokens, 1 + random.integer(6))) };
    }
    if (random.integer(6) === 0) request.prediction = Int32Array.from(guess(tokens, tokens.length));
    const wish = random.integer(8);
    if (wish === 0) request.speculation = { draftsMax: random.integer(4) };
    if (wish === 1) request.speculation = { lookup: { max: 3, min: 1 } };
  }
  if (random.integer(3) === 0) return {};
  const isDeferred = random.integer(2) === 0;
  const drafter: Drafter = {
    name: 'oracle',
    propose: (wishes) => {
      for (const { sequence, draftsMax } of wishes) {
        const asked = sequence.owner.request.speculation?.draftsMax ?? draftsMax;
        assert.ok(draftsMax <= asked, 'no more than the request allows');
        if (random.integer(6) === 0) continue;
        const truth = truths.get(sequence.owner.request.id)?.[sequence.index]?.tokens ?? [];
        sequence.drafts = guess(truth.slice(sequence.generated), draftsMax);
      }
      return isDeferred ? new Promise((resolve) => setImmediate(resolve)) : undefined;
    },
    ...(random.integer(2) === 0 && { takeHidden: listener() }),
    forget: () => {},
    close: () => {},
  };
  return { drafter, draftsMax: 1 + random.integer(8) };
}

/** Hears the hidden state of every token of a sequence, from the prompt's last one on, in order; again where a row that waited was given up. */
function listener(): NonNullable<Drafter['takeHidden']> {
  const next = new WeakMap<Sequence, number>();
  return (sequence, values, row) => {
    const position = sequence.length - 1;
    const expected = next.get(sequence) ?? sequence.promptLength - 1;
    assert.ok(position === expected || position === expected - 1, 'a state follows the one before');
    next.set(sequence, position + 1);
    assert.ok(row >= 0 && row < values.length, 'a row of the states');
  };
}
