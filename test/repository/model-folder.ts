import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { EngineHost } from '../../src/repository/engine-host.ts';
import type { InferRequest, InferResponse, Model } from '../../src/repository/model.ts';
import { openRepository, type Repository, type RepositoryOptions } from '../../src/repository/repository.ts';

/** A repository's folder in a temporary place, made from the texts of its files. */
export class ModelFolder {
  readonly path = mkdtempSync(join(tmpdir(), 'nereid-repository-'));

  constructor(files: Readonly<Record<string, string | Uint8Array>> = {}) {
    for (const [path, content] of Object.entries(files)) this.write(path, content);
  }

  write(path: string, content: string | Uint8Array): void {
    const target = join(this.path, path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, content);
  }

  delete(path: string): void {
    rmSync(join(this.path, path), { recursive: true, force: true });
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** For repositories without engines. */
export const noEngines: EngineHost = {
  acquire: async () => {
    throw new Error('this test has no engines');
  },
};

/** A repository over files, closed and removed by what it returns. */
export async function testRepository(
  files: Readonly<Record<string, string | Uint8Array>>,
  options: Partial<RepositoryOptions> = {},
): Promise<{ repository: Repository; folder: ModelFolder; close(): Promise<void> }> {
  const folder = new ModelFolder(files);
  const repository = await openRepository({ folders: [folder.path], engines: noEngines, ...options });
  return {
    repository,
    folder,
    close: async () => {
      await repository.close(0);
      folder.remove();
    },
  };
}

/** Every response of a request, in order; rejects with the error of one, or the refusal. */
export function inferAll(model: Model, request: Partial<InferRequest>): Promise<InferResponse[]> {
  return new Promise((resolve, reject) => {
    const responses: InferResponse[] = [];
    model.infer(
      { id: '', inputs: [], parameters: {}, ...request },
      {
        respond: (response, isFinal) => {
          if (response?.error) reject(response.error);
          if (response) responses.push(response);
          if (isFinal) resolve(responses);
        },
      },
    );
  });
}

/** An identity model of INT32 [-1]. */
export const identityConfig = `
  backend: "identity" max_batch_size: 8
  input { name: "INPUT0" data_type: TYPE_INT32 dims: [ -1 ] }
  output { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ -1 ] }
`;

/** Triton's decoupled example. */
export const repeatConfig = `
  backend: "repeat"
  input { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] }
  input { name: "DELAY" data_type: TYPE_UINT32 dims: [ -1 ] optional: true }
  output { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }
  output { name: "IDX" data_type: TYPE_UINT32 dims: [ 1 ] }
  model_transaction_policy { decoupled: true }
`;
