import { setFlagsFromString } from 'node:v8';

/**
 * To be called before a front end makes its first objects. V8 learns which lines of code make objects that survive, and then puts what those
 * lines make among the old ones at once. A server's requests survive now and then; put among the old ones they are dead a millisecond later,
 * and keep alive whatever they point to: collections take four times as long (`npm run bench:triton`, HTTP).
 */
export function keepRequestsYoung(): void {
  setFlagsFromString('--no-allocation-site-pretenuring');
}
