import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { NereidError } from '../../src/base/errors.ts';
import type { GenerationRequest } from '../../src/runtime/requests/request.ts';
import { missingGpu } from '../device/cuda-gpu.ts';
import { type Feature, features, plainRequest } from './registry.ts';
import { FeatureBench, gpuPlace, places, vocabularySize } from './run.ts';
import { featureTable } from './table.ts';

const page = join(packageRoot, 'docs/features.md');

/** Requests over two prompts, one of which comes twice, so that there is something to share. */
function requests(): GenerationRequest[] {
  const prompt = (length: number, first: number) =>
    Int32Array.from({ length }, (_, at) => (first + (at % 7) * 31) % vocabularySize);
  return [prompt(37, 0), prompt(37, 0), prompt(5, 9)].map((tokens, id) => plainRequest(id, tokens));
}

type Change = 'request' | 'brings';

function changed(request: GenerationRequest, own: readonly Feature[], by: Change): GenerationRequest {
  for (const feature of own) Object.assign(request, feature[by]?.(request));
  return request;
}

/** What requests answer alone, by what they ask for. */
class Alone {
  readonly #bench: FeatureBench;
  readonly #answers = new Map<string, Promise<string[]>>();

  constructor(bench: FeatureBench) {
    this.#bench = bench;
  }

  of(pair: readonly Feature[]): Promise<string[]> {
    const own = pair.filter(({ request }) => request);
    const key = own.map(({ name }) => name).join('|');
    const known = this.#answers.get(key) ?? this.#run(own);
    this.#answers.set(key, known);
    return known;
  }

  async #run(own: readonly Feature[]): Promise<string[]> {
    const answers: string[] = [];
    for (const request of requests()) {
      answers.push(...(await this.#bench.run([], [changed(request, own, 'request')])));
    }
    return answers;
  }
}

/** '' where both work together and the answers are as if alone, else the code of the refusal. */
async function verdict(bench: FeatureBench, alone: Alone, pair: readonly Feature[]): Promise<string> {
  const asked = requests().map((request) => changed(changed(request, pair, 'request'), pair, 'brings'));
  try {
    const together = await bench.run(pair, asked);
    assert.deepEqual(together, await alone.of(pair));
    return '';
  } catch (thrown) {
    const isRefused = thrown instanceof NereidError && ['invalid', 'unsupported'].includes(thrown.kind);
    if (isRefused) return thrown.code;
    throw thrown;
  }
}

const verdicts = new Map<string, string>();

const missing = missingGpu();
for (const place of [...places, gpuPlace]) {
  const skip = place === gpuPlace && missing;
  test(`every feature with every other on ${place.name}: as if alone, or refused by name`, {
    skip,
  }, async () => {
    const bench = await FeatureBench.open(place);
    const alone = new Alone(bench);
    try {
      for (const [row, feature] of features.entries()) {
        for (const other of features.slice(row)) {
          const key = `${place.name}|${feature.name}|${other.name}`;
          const pair = feature === other ? [feature] : [feature, other];
          const found = verdict(bench, alone, pair);
          verdicts.set(key, await found.catch((cause) => Promise.reject(new Error(key, { cause }))));
        }
      }
    } finally {
      bench.close();
    }
  });
}

test('a GPU refuses what the reference device does', { skip: missing ?? false }, () => {
  const of = (name: string) =>
    [...verdicts]
      .filter(([key]) => key.startsWith(`${name}|`))
      .map(([key, found]) => [key.slice(name.length), found]);
  assert.deepEqual(of(gpuPlace.name), of('reference, blocks'));
});

test('docs/features.md says what ran', () => {
  const text = readFileSync(page, 'utf8');
  const [before, rest] = text.split('<!-- features -->\n');
  const [, after] = (rest ?? '').split('<!-- /features -->');
  const whole = `${before}<!-- features -->\n${featureTable(verdicts)}<!-- /features -->${after}`;
  if (process.env.NEREID_WRITE_FEATURES === '1') writeFileSync(page, whole);
  else assert.equal(text, whole, 'run it with NEREID_WRITE_FEATURES=1 to write the table anew');
});
