/** One attack by name, for figures: `node --import tsx test/abuse/try.ts NAME [CLIENTS] [-- FLAGS]`. */
import * as attacks from './attacks.ts';
import { killTarget, startTarget } from './server.ts';

const [name = '', clients = '20'] = process.argv.slice(2);
const split = process.argv.indexOf('--');
const flags = split > 0 ? process.argv.slice(split + 1) : ['--device', 'null', '--log-level', 'warn'];
const attack = new Map(Object.entries(attacks)).get(name) as typeof attacks.halfSent;
const target = await startTarget(flags);
try {
  await attack(target, { clients: Number(clients), honestMs: 1_000 });
  console.log(`${name}: held, peak ${attacks.peakMegabytes(target)} MB`);
} catch (error) {
  console.log(`${name}: ${(error as Error).message} ${String((error as Error).cause ?? '')}`);
  try {
    console.log(`peak ${attacks.peakMegabytes(target)} MB`);
  } catch {}
} finally {
  console.log(target.log().slice(-1500));
  await killTarget(target);
}
process.exit(0);
