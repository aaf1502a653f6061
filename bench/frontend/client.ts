/**
 * The benchmark's client process: one raw socket a stream, no HTTP library, and no more work on the bytes than counting events, so
 * that the server is what is measured.
 */
import { connect } from 'node:net';
import { messageOf } from '../../src/base/errors.ts';
import type { ClientResult, ClientRun } from './messages.ts';

const newline = 0x0a;
const doneMark = 'data: [DONE]';

interface StreamCount {
  events: number;
  reads: number;
  bytes: number;
}

function bodyOf(tokens: number): string {
  return JSON.stringify({
    messages: [{ role: 'user', content: 'Tell me a story.' }],
    max_tokens: tokens,
    ignore_eos: true,
    temperature: 0,
    stream: true,
  });
}

function requestOf(tokens: number, headers = ''): string {
  const body = bodyOf(tokens);
  return (
    'POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n' +
    `${headers}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  );
}

/** Counts the ends of events (two newlines; nothing else in a chunked response has them side by side), also across reads. */
function countEvents(chunk: Buffer, endedInNewline: boolean): number {
  let events = endedInNewline && chunk[0] === newline ? 1 : 0;
  for (let at = chunk.indexOf('\n\n'); at >= 0; at = chunk.indexOf('\n\n', at + 2)) events++;
  return events;
}

/** Reads and forgets; the server closes the connection at the end. */
function discarded(port: number, tokens: number): Promise<StreamCount> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const count: StreamCount = { events: tokens + 2, reads: 0, bytes: 0 };
    socket.once('connect', () => socket.write(requestOf(tokens, 'connection: close\r\n')));
    socket.on('error', reject);
    socket.once('data', (chunk) => {
      if (!chunk.includes('HTTP/1.1 200')) reject(new Error(chunk.toString('latin1', 0, 300)));
    });
    socket.on('data', (chunk) => {
      count.reads++;
      count.bytes += chunk.length;
    });
    socket.on('end', () => resolve(count));
  });
}

/** As a client of the API: `fetch`, lines, JSON, the text put together. */
async function parsed(port: number, tokens: number): Promise<StreamCount> {
  const count: StreamCount = { events: 0, reads: 0, bytes: 0 };
  const response = await fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: bodyOf(tokens),
  });
  if (!response.ok || !response.body) throw new Error(await response.text());
  const decoder = new TextDecoder();
  let pending = '';
  let text = '';
  for await (const chunk of response.body) {
    count.reads++;
    count.bytes += chunk.length;
    const events = (pending + decoder.decode(chunk, { stream: true })).split('\n\n');
    pending = events.pop() ?? '';
    for (const event of events) {
      count.events++;
      if (event !== doneMark)
        text += JSON.parse(event.slice('data: '.length)).choices[0]?.delta.content ?? '';
    }
  }
  if (text === '') throw new Error('no text came');
  return count;
}

const readers = { count: stream, discard: discarded, parse: parsed };

function stream(port: number, tokens: number): Promise<StreamCount> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const count: StreamCount = { events: 0, reads: 0, bytes: 0 };
    let tail = '';
    let endedInNewline = false;
    socket.once('connect', () => socket.write(requestOf(tokens)));
    socket.on('error', reject);
    socket.on('close', () => reject(new Error(`a stream ended early: ${tail.slice(-300)}`)));
    socket.on('data', (chunk) => {
      count.reads++;
      count.bytes += chunk.length;
      count.events += countEvents(chunk, endedInNewline);
      endedInNewline = chunk[chunk.length - 1] === newline;
      tail = tail.slice(-40) + chunk.toString('latin1', Math.max(0, chunk.length - 40));
      if (!tail.includes(doneMark) || !tail.endsWith('0\r\n\r\n')) return;
      resolve(count);
      socket.destroy();
    });
  });
}

async function run({ port, streams, tokens, reading = 'count' }: ClientRun): Promise<ClientResult> {
  const startMs = performance.now();
  const startCpu = process.cpuUsage();
  const counts = await Promise.all(Array.from({ length: streams }, () => readers[reading](port, tokens)));
  const seconds = (performance.now() - startMs) / 1000;
  const sum = (field: keyof StreamCount) => counts.reduce((total, count) => total + count[field], 0);
  // The role at the beginning and [DONE] at the end are not tokens.
  const events = sum('events') - 2 * streams;
  const { user, system } = process.cpuUsage(startCpu);
  const cpuSeconds = (user + system) / 1e6;
  if (reading === 'count' && events !== streams * tokens)
    throw new Error(`${events} token events arrived, not ${streams * tokens}`);
  return { seconds, cpuSeconds, events, reads: sum('reads'), bytes: sum('bytes') };
}

process.on('message', (message) => {
  run(message as ClientRun).then(
    (result) => process.send?.(result),
    (error: unknown) => {
      console.error(`client: ${messageOf(error)}`);
      process.exit(1);
    },
  );
});
process.on('disconnect', () => process.exit(0));
