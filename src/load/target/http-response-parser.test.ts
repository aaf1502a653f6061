import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HttpResponseParser, type ResponseHead, responseHeadBytesMax } from './http-response-parser.ts';

interface Read {
  head: ResponseHead | undefined;
  body: string;
  isDone: boolean;
  problem: string | undefined;
}

/** Reads a response in pieces of so many bytes. */
function read(text: string, pieceBytes: number, closes = false): Read {
  const seen: Read = { head: undefined, body: '', isDone: false, problem: undefined };
  const parser = new HttpResponseParser({
    head: (head) => {
      seen.head = head;
    },
    body: (bytes) => {
      seen.body += bytes.toString('latin1');
    },
    end: () => {
      seen.isDone = true;
    },
  });
  const bytes = Buffer.from(text, 'latin1');
  for (let at = 0; at < bytes.length; at += pieceBytes)
    seen.problem ??= parser.push(bytes.subarray(at, at + pieceBytes));
  if (closes) parser.close();
  assert.equal(parser.isDone, seen.isDone);
  return seen;
}

const cases: [string, string, { body: string; status?: number; isReusable?: boolean; closes?: boolean }][] = [
  ['a length', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', { body: 'hello' }],
  ['no bytes', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', { body: '' }],
  ['no body', 'HTTP/1.1 204 No Content\r\nX: y\r\n\r\n', { body: '', status: 204 }],
  [
    'chunks, an extension, trailers',
    'HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n',
    { body: 'hello!' },
  ],
  [
    'line feeds alone, and 100 Continue before',
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\nContent-Length: 2\nConnection: Close\n\nno',
    { body: 'no', status: 503, isReusable: false },
  ],
  ['HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx', { body: 'x', isReusable: false }],
  [
    'until the connection closes',
    'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n',
    { body: 'data: 1\n\n', isReusable: false, closes: true },
  ],
];

for (const [name, text, expected] of cases) {
  test(`a response with ${name}, in pieces of any size`, () => {
    for (let pieceBytes = 1; pieceBytes <= text.length; pieceBytes++) {
      const seen = read(text, pieceBytes, expected.closes);
      assert.equal(seen.problem, undefined, `${pieceBytes} bytes a piece`);
      assert.ok(seen.isDone);
      assert.equal(seen.body, expected.body);
      assert.equal(seen.head?.status, expected.status ?? 200);
      assert.equal(seen.head?.isReusable, expected.isReusable ?? true);
    }
  });
}

test('what is no response is said to be none', () => {
  const problems: [string, RegExp][] = [
    ['SSH-2.0-OpenSSH\r\n\r\n', /no HTTP\/1.1 status line/],
    ['HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n', /no content-length/],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n', /no chunk size/],
    ['HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n', /longer than it said/],
    ['HTTP/1.1 101 Switching\r\n\r\n', /another protocol/],
    ['HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy', /more bytes/],
    [`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(responseHeadBytesMax)}\r\n\r\n`, /headers are too long/],
  ];
  for (const [text, problem] of problems) assert.match(read(text, text.length).problem ?? '', problem);
});

test('a connection that closes too early leaves no whole answer', () => {
  assert.equal(read('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel', 100, true).isDone, false);
  assert.equal(read('HTTP/1.1 200 OK\r\n', 100, true).isDone, false);
});
