import { test } from 'node:test';
import { simulateRanks } from '../../../test/support/rank-simulator.ts';

/** Set to run one schedule again: the number that a failure printed. */
const onlySeed = process.env.NEREID_SIMULATION_SEED;
const count = Number(process.env.NEREID_RANK_SIMULATIONS ?? 40);
const seeds = onlySeed ? [Number(onlySeed)] : Array.from({ length: count }, (_, index) => index + 1);

test(`${seeds.length} seeded groups of ranks, of which any may die, keep every promise`, async () => {
  for (const seed of seeds) {
    try {
      await simulateRanks(seed);
    } catch (thrown) {
      throw new Error(`NEREID_SIMULATION_SEED=${seed} fails`, { cause: thrown });
    }
  }
});
