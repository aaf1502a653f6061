import assert from 'node:assert/strict';
import { test } from 'node:test';
import { humanLine, logFormatOf } from './log.ts';

test('people on a terminal get lines, programs get JSON, unless told otherwise', () => {
  const target = { write: () => {} };
  assert.equal(logFormatOf(undefined, { ...target, isTTY: true }), 'human');
  assert.equal(logFormatOf(undefined, target), 'json');
  assert.equal(logFormatOf('json', { ...target, isTTY: true }), 'json');
  assert.equal(logFormatOf('human', target), 'human');
});

test('a line for people has what happened in front and the rest by name', () => {
  const fields = {
    level: 40,
    time: 0,
    request_id: 'a',
    method: 'POST',
    path: '/v1/x',
    route: '/v1/x',
    status: 503,
    error: { code: 'c' },
    msg: 'request',
  };
  const line = humanLine(`${JSON.stringify(fields)}\n`);
  assert.match(
    line,
    /^\d\d:\d\d:\d\d warning: request POST \/v1\/x 503 request_id=a error=\{"code":"c"\}\n$/,
  );
  assert.equal(humanLine('not JSON\n'), 'not JSON\n');
});
