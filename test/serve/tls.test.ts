import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import { Client, credentials } from '@grpc/grpc-js';
import { packageRoot } from '../../src/base/entry.ts';
import { type ServeProcess, startServe } from '../support/serve.ts';

const given = (name: string): string => join(packageRoot, 'test/support/tls', name);
const ca = readFileSync(given('authority.pem'));
const clientCertificate = {
  cert: readFileSync(given('client.pem')),
  key: readFileSync(given('client-key.pem')),
};

/** What a client offers: the authority that it trusts, and perhaps a certificate of its own. */
interface Offer {
  ca: Buffer;
  cert?: Buffer;
  key?: Buffer;
}

function get(port: number, path: string, offer: Offer): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: 'localhost', port, path, agent: false, ...offer }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode));
    });
    sent.on('error', reject);
    sent.end();
  });
}

/** gRPC's health check, over TLS. @returns the bytes of its answer */
function grpcHealth(port: number, { ca: authority, key, cert }: Offer): Promise<Buffer> {
  const offered = credentials.createSsl(authority, key ?? null, cert ?? null);
  const client = new Client(`localhost:${port}`, offered);
  const identity = (bytes: Buffer): Buffer => bytes;
  const deadline = Date.now() + 60_000;
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      '/grpc.health.v1.Health/Check',
      identity,
      identity,
      Buffer.alloc(0),
      { deadline } as never,
      (error: Error | null, answer?: Buffer) => {
        client.close();
        if (error) reject(error);
        else resolve(answer as Buffer);
      },
    );
  });
}

/** The serial number of the certificate that a port shows. */
function shown(port: number, offer: Offer): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { port, host: 'localhost', servername: 'localhost', ALPNProtocols: ['h2', 'http/1.1'] };
    const socket = connect({ ...options, ...offer }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on('error', reject);
  });
}

describe('TLS on every port', () => {
  const folder = mkdtempSync(join(tmpdir(), 'nereid-tls-test-'));
  const certificate = join(folder, 'server.pem');
  const key = join(folder, 'server-key.pem');
  const flags = (...more: string[]): string[] => [
    ...['--device', 'null', '--log-level', 'error', '--log-format', 'json'],
    ...['--tls-certificate', certificate, '--tls-key', key, ...more],
    ...['--grpc-port', '0', '--metrics-port', '0'],
  ];

  function show(name: 'server' | 'client'): void {
    copyFileSync(given(`${name}.pem`), certificate);
    copyFileSync(given(`${name}-key.pem`), key);
  }

  function portsOf(server: ServeProcess): Record<string, number> {
    const port = (pattern: RegExp): number => Number(pattern.exec(server.log())?.[1]);
    return {
      http: port(/Started HTTPService at [^:]+:(\d+)/),
      grpc: port(/Started GRPCInferenceService at [^:]+:(\d+)/),
      metrics: port(/Started Metrics Service at [^:]+:(\d+)/),
      ...(server.log().includes('Briton gRPC') && { briton: port(/on [^:]+:(\d+) \(Briton gRPC\)/) }),
    };
  }

  before(() => show('server'));
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const frontEnds of [1, 2]) {
    test(`with ${frontEnds} front end(s): HTTP, gRPC and metrics speak it, and show another certificate after SIGHUP`, async () => {
      show('server');
      const more = frontEnds === 1 ? ['--briton-port', '0'] : ['--front-ends', '2'];
      const server = await startServe('tls-test', flags(...more));
      const ports = portsOf(server);
      assert.equal(Object.keys(ports).length, frontEnds === 1 ? 4 : 3);
      const offer = { ca };
      assert.equal(await get(ports.http as number, '/health/ready', offer), 200);
      assert.equal(await get(ports.metrics as number, '/metrics', offer), 200);
      assert.deepEqual([...(await grpcHealth(ports.grpc as number, offer))], [8, 1]);
      await assert.rejects(get(ports.http as number, '/health/ready', { ca: Buffer.alloc(0) }));
      const first = await shown(ports.http as number, offer);
      for (const [name, port] of Object.entries(ports)) assert.equal(await shown(port, offer), first, name);
      show('client');
      server.child.kill('SIGHUP');
      const deadline = Date.now() + 60_000;
      for (const [name, port] of Object.entries(ports)) {
        // Several front ends take turns: each of them must have read it.
        for (let different = 0; different < 2 * frontEnds; ) {
          assert.ok(Date.now() < deadline, `${name} still shows the old certificate`);
          different = (await shown(port, offer)) === first ? 0 : different + 1;
          await sleep(10);
        }
      }
      assert.deepEqual([...(await grpcHealth(ports.grpc as number, offer))], [8, 1]);
      // A file that is no certificate changes nothing.
      writeFileSync(certificate, 'nothing');
      server.child.kill('SIGHUP');
      while (!server.log().includes('stay as they were')) {
        assert.ok(Date.now() < deadline, server.log());
        await sleep(20);
      }
      assert.notEqual(await shown(ports.grpc as number, offer), first);
      assert.equal(await server.stop(), 0);
    });
  }

  test('with a client authority, only who shows a certificate of it gets past the handshake, on every port', async () => {
    show('server');
    const server = await startServe('tls-test', flags('--tls-client-authority', given('authority.pem')));
    const { http, grpc, metrics } = portsOf(server) as Record<'http' | 'grpc' | 'metrics', number>;
    const known = { ca, ...clientCertificate };
    assert.equal(await get(http, '/health/ready', known), 200);
    assert.equal(await get(metrics, '/metrics', known), 200);
    assert.deepEqual([...(await grpcHealth(grpc, known))], [8, 1]);
    await assert.rejects(get(http, '/health/ready', { ca }));
    await assert.rejects(get(metrics, '/metrics', { ca }));
    await assert.rejects(grpcHealth(grpc, { ca }));
    assert.equal(await server.stop(), 0);
  });
});
