/** A process that records a few events a millisecond until it is killed; run by src/trace/trace.test.ts. */
import { phases } from '../../src/trace/phases.ts';
import { Tracer } from '../../src/trace/tracer.ts';

const tracer = new Tracer({ path: process.argv[2] as string, role: 'child', isFirst: false });
let request = 0;
setInterval(() => {
  tracer.begin(phases.sample, request);
  tracer.end(phases.sample, request++);
}, 1);
