import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { FaultyLink, type LinkFaults } from '../../../test/support/faulty-link.ts';
import { SeededRandom } from '../../base/random.ts';
import { nullModelSource } from '../../device/null/index.ts';
import { EngineCore } from '../loop/engine-core.ts';
import { loadModel } from '../process/load-model.ts';
import type { SequenceEvent } from '../requests/events.ts';
import { type GenerationRequest, greedySampling } from '../requests/request.ts';
import { EngineServer } from './engine-server.ts';
import { RemoteEngine } from './remote-client.ts';

const size = { vocabularySize: 100, contextLength: 256 };

async function engine(path: string): Promise<EngineServer> {
  const { model, options } = await loadModel('null', nullModelSource(size), {
    ...{ device: 'null', deviceOptions: {}, slots: 8, batchTokensMax: 64, kvDtype: 'f16', threads: 1 },
    prefixReuse: true,
  });
  const server = new EngineServer(
    (emit) => new EngineCore(model, options, emit),
    (error) => assert.fail(String(error)),
    () => {},
  );
  await server.listen(path);
  return server;
}

function request(random: SeededRandom): Omit<GenerationRequest, 'id'> {
  return {
    promptTokens: Int32Array.from({ length: 1 + random.integer(20) }, () => random.integer(100)),
    sampling: greedySampling,
    maxTokens: 1 + random.integer(20),
    minTokens: 0,
    stopTokenIds: [],
    sequences: 1 + random.integer(3),
    priority: 0,
  };
}

/** Submits through the link until so many requests have ended; each must end once in each sequence, and be silent after that. */
async function drive(
  client: RemoteEngine,
  random: SeededRandom,
  count: number,
): Promise<{ whole: number; failed: number }> {
  const outcome = { whole: 0, failed: 0 };
  let ended = 0;
  let submitted = 0;
  const deadline = Date.now() + 120_000;
  while (ended < count) {
    assert.ok(Date.now() < deadline, `${ended} of ${submitted} requests ended`);
    await sleep(1);
    if (!client.ready || submitted - ended > 20 || submitted >= count) continue;
    const asked = request(random);
    const open = new Set(Array.from({ length: asked.sequences }, (_, sequence) => sequence));
    let failed = false;
    const onEvent = (event: SequenceEvent): void => {
      assert.ok(open.has(event.sequence), 'an event after the end of its sequence');
      if (!event.finish) return;
      open.delete(event.sequence);
      failed ||= event.finish === 'error';
      if (event.finish === 'error') assert.equal(event.error?.code, 'ENGINE_UNAVAILABLE');
      if (open.size > 0) return;
      ended++;
      outcome[failed ? 'failed' : 'whole']++;
    };
    client.submit(asked, onEvent);
    submitted++;
  }
  return outcome;
}

describe('the way between front end and engine', { skip: process.platform === 'win32' }, () => {
  const faults: Record<string, LinkFaults> = {
    'cuts a frame anywhere': { cut: 0.01, twice: 0, delayMsMax: 0 },
    'says things late': { cut: 0.002, twice: 0, delayMsMax: 3 },
    'says things twice': { cut: 0, twice: 0.3, delayMsMax: 0 },
    'does all of that': { cut: 0.01, twice: 0.2, delayMsMax: 2 },
  };
  for (const [what, fault] of Object.entries(faults)) {
    const seed = 7;
    test(`${what}: every request ends once, and the engine has none left (seed ${seed})`, async () => {
      const folder = mkdtempSync(join(tmpdir(), 'nereid-link-'));
      const server = await engine(join(folder, 'engine'));
      const link = new FaultyLink(join(folder, 'engine'), seed, { ...fault });
      await link.listen(join(folder, 'link'));
      const client = new RemoteEngine(join(folder, 'link'));
      await client.whenReady();
      const { whole, failed } = await drive(client, new SeededRandom(seed), 120);
      assert.ok(failed === 0 || link.cuts > 0, 'a request failed though nothing was cut');
      assert.ok(whole > 0);
      assert.equal(client.inFlight, 0);
      link.heal();
      await client.whenReady();
      const after = await drive(client, new SeededRandom(seed + 1), 10);
      assert.ok(after.whole > 0);
      // What it says last comes when it falls idle.
      for (let i = 0; i < 1_000 && client.statistics().runningSequences > 0; i++) await sleep(5);
      assert.equal(client.statistics().runningSequences, 0);
      await client.close();
      link.close();
      server.close();
      rmSync(folder, { recursive: true });
    });
  }
});
