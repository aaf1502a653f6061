import { test } from 'node:test';
import { simulate } from '../../../test/support/engine-simulator.ts';

/** Set to run one schedule again: the number that a failure printed. */
const onlySeed = process.env.NEREID_SIMULATION_SEED;
const count = Number(process.env.NEREID_SIMULATIONS ?? 150);
const seeds = onlySeed ? [Number(onlySeed)] : Array.from({ length: count }, (_, index) => index + 1);

test(`${seeds.length} seeded schedules of arrivals, cancels, priorities and limits keep every promise`, async () => {
  for (const seed of seeds) {
    try {
      await simulate(seed);
    } catch (thrown) {
      throw new Error(`NEREID_SIMULATION_SEED=${seed} fails`, { cause: thrown });
    }
  }
});
