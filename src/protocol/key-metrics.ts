import { Counter, type Registry } from 'prom-client';
import type { KeyObserver } from './authentication.ts';

/** Counts what each key is used for. Labels come from the key file, never from clients. */
export function keyMetrics(registry: Registry): KeyObserver {
  const registers = [registry];
  const requests = new Counter({
    name: 'nereid:key_requests_total',
    help: 'Requests that were let in, by key.',
    labelNames: ['key'],
    registers,
  });
  const refused = new Counter({
    name: 'nereid:key_refused_total',
    help: 'Requests refused by a limit of their key.',
    labelNames: ['key', 'limit'],
    registers,
  });
  const tokens = new Counter({
    name: 'nereid:key_tokens_total',
    help: 'Tokens of prompts and answers, by key.',
    labelNames: ['key'],
    registers,
  });
  return {
    request: (key) => requests.inc({ key }),
    refused: (key, limit) => refused.inc({ key, limit }),
    tokens: (key, count) => tokens.inc({ key }, count),
  };
}
