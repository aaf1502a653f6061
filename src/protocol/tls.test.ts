import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { packageRoot } from '../base/entry.ts';
import { createHttpServer } from './http-server.ts';
import { readTls, type TlsOptions } from './tls.ts';

const file = (name: string) => join(packageRoot, 'test/support/tls', name);
const certificateFile = file('server.pem');
const keyFile = file('server-key.pem');
const clientAuthorityFile = file('authority.pem');

/** Starts a server with these files and asks it once. */
async function ask(options: TlsOptions, client: object): Promise<number | undefined> {
  const errorResponse = () => ({ status: 500, headers: {}, body: {} });
  const app = createHttpServer({ errorResponse, tls: await readTls(options) });
  app.get('/', async () => 'secret');
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;
  try {
    return await new Promise((resolve, reject) => {
      const ca = readFileSync(clientAuthorityFile);
      request({ host: '127.0.0.1', port, ca, agent: false, ...client }, (response) => {
        response.resume();
        resolve(response.statusCode);
      })
        .on('error', reject)
        .end();
    });
  } finally {
    await app.close();
  }
}

describe('TLS', () => {
  test('a client that trusts the authority is served; one that speaks only an old version is not', async () => {
    assert.equal(await ask({ certificateFile, keyFile }, {}), 200);
    await assert.rejects(ask({ certificateFile, keyFile }, { maxVersion: 'TLSv1.1', minVersion: 'TLSv1.1' }));
    await assert.rejects(ask({ certificateFile, keyFile }, { ca: [] }), /certificate/);
  });

  test('with client authorities only clients with a certificate of theirs get in', async () => {
    const options = { certificateFile, keyFile, clientAuthorityFile };
    const client = { cert: readFileSync(file('client.pem')), key: readFileSync(file('client-key.pem')) };
    assert.equal(await ask(options, client), 200);
    await assert.rejects(ask(options, {}));
  });

  test('wrong files are named', async () => {
    const rejects = (options: TlsOptions, text: RegExp) => assert.rejects(readTls(options), text);
    await rejects({ certificateFile: '/nowhere.pem', keyFile }, /nowhere\.pem: ENOENT/);
    await rejects({ certificateFile: keyFile, keyFile }, /server-key\.pem/);
    await rejects({ certificateFile, keyFile: certificateFile }, /server\.pem/);
    await rejects({ certificateFile, keyFile: file('client-key.pem') }, /client-key\.pem with/);
    await rejects({ certificateFile, keyFile, clientAuthorityFile: keyFile }, /holds no certificate/);
  });
});
