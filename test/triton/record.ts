/**
 * Records what a genuine tritonserver answers: `node --import tsx test/triton/record.ts HTTP_PORT GRPC_PORT` (models: `models.ts`).
 * Start it in a loop: some cases kill it, which is noted as such.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client, credentials } from '@grpc/grpc-js';
import { ask, type Recorded } from './ask.ts';
import { askGrpc, type RecordedCall } from './ask-grpc.ts';
import { grpcCases } from './grpc-cases.ts';
import { httpCases } from './http-cases.ts';

const [httpPort, grpcPort] = process.argv.slice(2).map(Number);
const write = (name: string, recorded: object): void =>
  writeFileSync(join(import.meta.dirname, name), `${JSON.stringify(recorded, null, 1)}\n`);

const calls: Record<string, RecordedCall> = {};
const client = new Client(`127.0.0.1:${grpcPort}`, credentials.createInsecure());
for (const one of grpcCases) calls[one.name] = await askGrpc(client, one);
client.close();
write('grpc-recorded.json', calls);

const recorded: Record<string, Recorded | 'died'> = {};
const ready = { name: 'ready', method: 'GET', path: '/v2/health/ready' };
for (const one of httpCases) {
  recorded[one.name] = await ask(Number(httpPort), one).catch(() => 'died' as const);
  if (recorded[one.name] !== 'died') continue;
  process.stderr.write(`died: ${one.name}\n`);
  for (let status = 0; status !== 200; ) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    status = await ask(Number(httpPort), ready).then(
      (answer) => answer.status,
      () => 0,
    );
  }
}
write('http-recorded.json', recorded);
