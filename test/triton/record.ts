/**
 * Records what a genuine tritonserver 2.51.0 answers: `node --import tsx test/triton/record.ts` (it installs and starts the server; models:
 * `models.ts`). Only cases that are not recorded yet are asked, unless `--all` is given. Cases that kill the server are noted as such.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client, credentials } from '@grpc/grpc-js';
import { genuineTriton } from '../foreign/genuine-triton.ts';
import { ask, type Recorded } from './ask.ts';
import { askGrpc, type RecordedCall } from './ask-grpc.ts';
import { grpcCases } from './grpc-cases.ts';
import { httpCases } from './http-cases.ts';
import { writeTestModels } from './models.ts';
import { pythonTwin } from './python-twins.ts';

const isAll = process.argv.includes('--all');
const path = (name: string): string => join(import.meta.dirname, name);
const read = <T>(name: string): Record<string, T> =>
  isAll ? {} : JSON.parse(readFileSync(path(name), 'utf8'));
const write = (name: string, recorded: object): void =>
  writeFileSync(path(name), `${JSON.stringify(recorded, null, 1)}\n`);

const found = await genuineTriton();
if ('skip' in found) throw new Error(found.skip);
const folder = writeTestModels(pythonTwin);
const start = () => found.start(folder, ['--model-control-mode=explicit', '--load-model=*']);
let server = await start();

const calls = read<RecordedCall>('grpc-recorded.json');
const client = new Client(`127.0.0.1:${server.grpcPort}`, credentials.createInsecure());
for (const one of grpcCases) calls[one.name] ??= await askGrpc(client, one);
client.close();
write('grpc-recorded.json', calls);

const recorded = read<Recorded | 'died'>('http-recorded.json');
for (const one of httpCases) {
  if (recorded[one.name] !== undefined) continue;
  recorded[one.name] = await ask(server.httpPort, one, 'python').catch(() => 'died' as const);
  if (recorded[one.name] !== 'died') continue;
  process.stderr.write(`died: ${one.name}\n`);
  await server.stop();
  server = await start();
}
write('http-recorded.json', recorded);
await server.stop();
rmSync(folder, { recursive: true });
