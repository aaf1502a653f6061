/**
 * npm run bench:routing — what the ways of routing save: prompt tokens that four engines of the null device compute, and how long they take,
 * for users who share system prompts and for chats that go on. The null device takes time by the row, so that work saved is time saved.
 *
 * Options: --engines 4 --concurrency 64 --kv-positions 131072 --step-ms 4 --row-us 20
 */
import { parseArgs } from 'node:util';
import { type RoutingName, routingNames } from '../src/runtime/routing/router.ts';
import {
  chats,
  nullPool,
  runWorkload,
  sharedPrefixes,
  type WorkloadRequest,
  type WorkloadResult,
} from '../test/support/routing-workload.ts';

const bar = { computedRatio: 0.4 };

const { values } = parseArgs({
  options: {
    engines: { type: 'string', default: '4' },
    concurrency: { type: 'string', default: '64' },
    'kv-positions': { type: 'string', default: '131072' },
    'step-ms': { type: 'string', default: '4' },
    'row-us': { type: 'string', default: '20' },
  },
});

const workloads: [string, WorkloadRequest[]][] = [
  [
    '128 system prompts of 2,000 tokens (twice what one engine holds), 8 users each with 50 of their own',
    sharedPrefixes({ groups: 128, perGroup: 8, prefixTokens: 2000, ownTokens: 50 }),
  ],
  [
    '32 system prompts of 2,000 tokens, 16 users each with 50 of their own',
    sharedPrefixes({ groups: 32, perGroup: 16, prefixTokens: 2000, ownTokens: 50 }),
  ],
  [
    'one system prompt of 2,000 tokens, 512 users with 50 of their own',
    sharedPrefixes({ groups: 1, perGroup: 512, prefixTokens: 2000, ownTokens: 50 }),
  ],
  ['64 chats of 8 turns, 250 tokens more each turn', chats({ chats: 64, turns: 8, turnTokens: 250 })],
];

async function measure(routing: RoutingName, requests: readonly WorkloadRequest[]): Promise<WorkloadResult> {
  const pool = await nullPool({
    engines: Number(values.engines),
    routing,
    kvPositions: Number(values['kv-positions']),
    deviceOptions: { 'step-ms': values['step-ms'], 'row-us': values['row-us'] },
  });
  try {
    return await runWorkload(pool, requests, { concurrency: Number(values.concurrency), maxTokens: 64 });
  } finally {
    await pool.pool.close();
  }
}

console.log(
  `${values.engines} engines (null, ${values['step-ms']} ms a step and ${values['row-us']} us a row) with ${values['kv-positions']} KV positions ` +
    `each, ${values.concurrency} requests at a time, 64 tokens an answer, Node ${process.version}`,
);
for (const [index, [name, requests]] of workloads.entries()) {
  console.log(name);
  const results = new Map<RoutingName, WorkloadResult>();
  for (const routing of routingNames) results.set(routing, await measure(routing, requests));
  const base = results.get('round-robin')?.computedTokens ?? Number.NaN;
  for (const [routing, { promptTokens, computedTokens, seconds, imbalance }] of results) {
    const share = ((computedTokens / promptTokens) * 100).toFixed(1);
    console.log(
      `  ${routing.padEnd(13)} ${computedTokens} of ${promptTokens} prompt tokens computed (${share} %), ` +
        `${(computedTokens / base).toFixed(2)} x round-robin, ${seconds.toFixed(2)} s, busiest engine ${imbalance.toFixed(2)} x the mean`,
    );
  }
  if (index > 0) continue;
  const ratio = (results.get('prefix')?.computedTokens ?? Number.NaN) / base;
  console.log(
    `  bar           prefix <= ${bar.computedRatio} x round-robin: ${ratio <= bar.computedRatio ? 'met' : 'NOT met'}`,
  );
}
