import { createHash } from 'node:crypto';
import type { SeededRandom } from '../../src/base/random.ts';
import { memoryStore } from '../../src/runtime/outputs/memory-segment.ts';
import type { OutputStore } from '../../src/runtime/outputs/output-store.ts';
import { outputLayout } from '../../src/runtime/outputs/request-outputs.ts';
import type { SequenceEvent } from '../../src/runtime/requests/events.ts';
import type { GenerationRequest, RequestReturns } from '../../src/runtime/requests/request.ts';

/** Columns of the null model's hidden states. */
const hiddenWidth = 16;

/** What a sequence was shown of the model, in short: a hash of each row. */
export function shownBy({ outputs = {}, embedding }: SequenceEvent): string[] {
  const shown = embedding ? [`embedding ${digest(embedding)}`] : [];
  for (const [name, rows] of Object.entries(outputs)) {
    if (!('values' in rows)) continue;
    for (let row = 0; row < rows.rows; row++) {
      shown.push(`${name} ${digest(rows.values.subarray(row * rows.width, (row + 1) * rows.width))}`);
    }
  }
  return shown;
}

function digest(values: Float32Array): string {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return createHash('sha1').update(bytes).digest('base64');
}

/** Makes some requests ask for logits, hidden states or embeddings. */
export function addReturns(random: SeededRandom, requests: readonly GenerationRequest[]): void {
  for (const request of requests) {
    if (request.beams || random.integer(5) > 0) continue;
    const flag = (): boolean | undefined => random.integer(2) === 0 || undefined;
    request.returns = { contextLogits: flag(), generationLogits: flag() };
    if (random.integer(2) === 0 && request.guide === undefined) makePromptOnly(random, request);
  }
}

function makePromptOnly(random: SeededRandom, request: GenerationRequest): void {
  const pooling = (['last', 'mean', undefined] as const)[random.integer(3)];
  const returns: RequestReturns = { pooling, contextLogits: request.returns?.contextLogits };
  if (!pooling || random.integer(2) === 0) returns.contextHidden = true;
  Object.assign(request, {
    ...{ maxTokens: 0, minTokens: 0, sequences: 1, returns },
    ...{ logprobs: undefined, promptLogprobs: undefined },
  });
}

/** Room for the largest of these, and sometimes for more. */
export function randomStore(
  random: SeededRandom,
  requests: readonly GenerationRequest[],
  widths: { vocabularySize: number; contextLength: number },
): OutputStore {
  const sizes = requests.map((request) => outputLayout(request, { ...widths, hiddenWidth }).bytes);
  const bytes = Math.max(4, ...sizes);
  return memoryStore(bytes + random.integer(bytes * 2));
}
