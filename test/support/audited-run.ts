import assert from 'node:assert/strict';
import type { EngineCore } from '../../src/runtime/loop/engine-core.ts';
import type { SequenceEvent } from '../../src/runtime/requests/events.ts';
import { type AuditedOptions, auditedEngine, Outcomes } from './engine-simulator.ts';

/** An audited engine, with what it said so far. */
export async function open(options: AuditedOptions = {}) {
  const outcomes = new Outcomes();
  const events: SequenceEvent[] = [];
  const engine = await auditedEngine(options, (step) => {
    outcomes.take(step);
    events.push(...step);
  });
  return { ...engine, outcomes, events };
}

/** Steps until nothing is left to do. */
export async function finishAll(core: EngineCore): Promise<void> {
  for (let steps = 0; core.hasRunnable; steps++) {
    assert.ok(steps < 10_000, 'it ends');
    await core.step();
  }
}

/** A prompt of many different tokens. */
export function prompt(length: number, first = 0): Int32Array {
  return Int32Array.from({ length }, (_, i) => (first + i * 7) % 900);
}
