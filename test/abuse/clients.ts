import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import type { Target } from './server.ts';

/** An HTTP request as bytes on the wire. */
export function rawRequest(
  path: string,
  body: string | object,
  headers: Record<string, string> = {},
): string {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const lines = Object.entries({ host: 'x', 'content-type': 'application/json', ...headers })
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('');
  return `POST ${path} HTTP/1.1\r\n${lines}content-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`;
}

/** A socket that misbehaves. Errors are its lot. */
export class RawClient {
  readonly socket: Socket;
  closed = false;
  bytesReceived = 0;
  #first = '';

  /** @param reads false: it never takes a byte off the wire */
  constructor(port: number, reads = true) {
    this.socket = connect(port, '127.0.0.1');
    this.socket.on('error', () => {});
    this.socket.on('close', () => {
      this.closed = true;
    });
    if (!reads) {
      this.socket.pause();
      return;
    }
    this.socket.on('data', (chunk: Buffer) => {
      this.bytesReceived += chunk.length;
      if (this.#first.length < 65_536) this.#first += chunk.toString();
    });
  }

  /** What came first, up to 64 KiB. */
  get received(): string {
    return this.#first;
  }

  /** Writes and resolves once the kernel has it all, or the server hung up. */
  send(text: string): Promise<void> {
    return new Promise((resolve) => {
      this.socket.once('close', resolve);
      this.socket.write(text, () => resolve());
    });
  }

  /** Leaves with a reset, as a killed process does. */
  reset(): void {
    this.socket.resetAndDestroy();
  }
}

/** What an honest client found. */
export interface HonestAnswer {
  status: number;
  milliseconds: number;
}

/** One small completion over a connection of its own, as a client that does nothing wrong asks it. */
export async function honest(target: Target, fields: object = {}): Promise<HonestAnswer> {
  const startMs = performance.now();
  const response = await fetch(`${target.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', connection: 'close' },
    body: JSON.stringify({ prompt: 'A lighthouse', max_tokens: 4, ignore_eos: true, ...fields }),
    signal: AbortSignal.timeout(60_000),
  });
  await response.text();
  return { status: response.status, milliseconds: performance.now() - startMs };
}

/** What runs in {@link keepAsking}'s thread: plain JavaScript, so that it needs no loader. */
const askingCode = `
const { parentPort, workerData } = require('node:worker_threads');
let stopped = false;
parentPort.once('message', () => { stopped = true; });
(async () => {
  const answers = [];
  while (!stopped) {
    const startMs = performance.now();
    const status = await fetch(workerData.url + '/v1/completions', {
      method: 'POST',
      headers: { 'content-type': 'application/json', connection: 'close' },
      body: JSON.stringify({ prompt: 'A lighthouse', max_tokens: 4, ignore_eos: true }),
      signal: AbortSignal.timeout(60_000),
    }).then(async (response) => { await response.text(); return response.status; }, () => 0);
    answers.push({ status, milliseconds: performance.now() - startMs });
    await new Promise((resolve) => setTimeout(resolve, workerData.pauseMs));
  }
  parentPort.postMessage(answers);
})();
`;

/**
 * Asks honestly, one request after the other, until told to stop; resolves with what it found. In a thread of its own: the attackers'
 * loop has enough to do.
 */
export function keepAsking(target: Target, pauseMs = 50): () => Promise<HonestAnswer[]> {
  const worker = new Worker(askingCode, { eval: true, workerData: { url: target.url, pauseMs } });
  return async () => {
    worker.postMessage('stop');
    const [answers] = (await once(worker, 'message')) as [HonestAnswer[]];
    await worker.terminate();
    return answers;
  };
}

/** Every honest request was answered with 200 within the limit. */
export function assertServed(answers: readonly HonestAnswer[], millisecondsMax: number): void {
  assert.ok(answers.length > 0, 'nobody asked');
  const failed = answers.filter(({ status }) => status !== 200);
  assert.equal(
    failed.length,
    0,
    `${failed.length} of ${answers.length} failed: ${JSON.stringify(failed.slice(0, 5))}`,
  );
  const slowest = Math.max(...answers.map(({ milliseconds }) => milliseconds));
  assert.ok(slowest <= millisecondsMax, `an honest client waited ${Math.round(slowest)} ms`);
}
