import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { openRepository, type Repository } from '../../src/repository/repository.ts';
import { ask, type Recorded } from './ask.ts';
import { askGrpc, type RecordedCall } from './ask-grpc.ts';
import { grpcCases } from './grpc-cases.ts';
import { httpCases } from './http-cases.ts';
import { differsBecause, knownDifferences } from './known-differences.ts';
import { writeTestModels } from './models.ts';
import { type TritonServer, tritonServer } from './test-server.ts';

const read = <T>(name: string): Record<string, T> =>
  JSON.parse(readFileSync(join(import.meta.dirname, name), 'utf8'));

/** We say why, where a client that reads on finds it; tritonserver says it in its log. */
function withoutReason(text: string): string {
  return text
    .replace(/(failed to poll from model repository): .*"}$/, '$1"}')
    .replace(/; [^"]* needs a folder named 1 [^"]*\\n"}$/, '\\n"}');
}

/** The server's own names for what runs a model are not compared. */
function withoutBackend(text: string): string {
  return withoutReason(text)
    .replaceAll(/"(platform|backend)":"(python|identity|repeat|node)"/g, '"$1":""')
    .replaceAll(/"default_model_filename":"[^"]*",?/g, '');
}

describe('answers are those of a genuine tritonserver 2.51.0', () => {
  const folder = writeTestModels();
  let repository: Repository;
  let server: TritonServer;

  before(async () => {
    const engines = { acquire: () => Promise.reject(new Error('these models need no engine')) };
    repository = await openRepository({
      folders: [folder],
      controlMode: 'explicit',
      loadModels: ['*'],
      engines,
    });
    server = await tritonServer({ repository });
  });
  after(async () => {
    await server.close();
    await repository.close(0);
    rmSync(folder, { recursive: true });
  });

  // In the order of the recording: the last HTTP cases change what the models are.
  const recordedGrpc = read<RecordedCall>('grpc-recorded.json');
  for (const one of grpcCases) {
    const recorded = recordedGrpc[one.name];
    if (recorded === undefined || differsBecause(one.name)) continue;
    test(one.name, async () => {
      const answer = await askGrpc(server.client, one);
      const got = JSON.parse(withoutBackend(JSON.stringify(answer)));
      const expected = JSON.parse(withoutBackend(JSON.stringify(recorded)));
      // Its texts that end with a space do not survive gRPC's headers.
      if (expected.code !== 0 && expected.details === '') expected.details = got.details;
      assert.deepEqual(got, expected);
    });
  }

  const recordedHttp = read<Recorded | 'died'>('http-recorded.json');
  for (const one of httpCases) {
    const recorded = recordedHttp[one.name];
    if (recorded === undefined || recorded === 'died' || differsBecause(one.name)) continue;
    test(one.name, async () => {
      const answer = await ask(server.httpPort, one);
      const compared = { ...recorded, body: withoutBackend(recorded.body) };
      assert.deepEqual({ ...answer, body: withoutBackend(answer.body) }, compared);
    });
  }

  test('the known differences name cases that exist', () => {
    const names = new Set([...httpCases, ...grpcCases].map((one) => one.name));
    for (const name of knownDifferences) assert.ok(names.has(name), name);
  });
});
