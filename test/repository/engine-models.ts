import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nullModelSource } from '../../src/device/null/index.ts';
import { createRepository, type ModelGroup } from '../../src/repository/create.ts';
import type { EngineHost, EngineSpecification } from '../../src/repository/engine-host.ts';
import { openRepository, type Repository, type RepositoryOptions } from '../../src/repository/repository.ts';
import { openAdapters } from '../../src/runtime/adapters/open.ts';
import { LocalEngine } from '../../src/runtime/local-engine.ts';
import { loadModel } from '../../src/runtime/process/load-model.ts';
import { bytesOf, byteTokenizer, byteVocabularySize, endOfTextId } from '../openai/byte-tokenizer.ts';
import { nullAdapterSettings, nullLinears } from '../support/null-adapters.ts';
import { ModelFolder } from './model-folder.ts';

export interface EngineModelsOptions {
  group?: ModelGroup;
  values?: Record<string, string>;
  /** What the engine says after a prompt whose length is a multiple of this one's (and of its end). Default: hashed tokens. */
  says?: string;
  /** Instead of the backends in the templates. */
  backend?: string;
  thenStops?: boolean;
  stepMs?: number;
  repository?: Partial<RepositoryOptions>;
}

export interface EngineModels {
  repository: Repository;
  host: EngineHost & { asked: EngineSpecification[]; engines: LocalEngine[] };
  folder: string;
  close(): Promise<void>;
}

/** A repository of `all_models/` over engines on the null device whose tokens are bytes. */
export async function engineModels(options: EngineModelsOptions = {}): Promise<EngineModels> {
  const place = new ModelFolder();
  const tokenizerFolder = join(place.path, 'tokenizer');
  mkdirSync(tokenizerFolder);
  for (const [name, text] of Object.entries(byteTokenizer().files))
    writeFileSync(join(tokenizerFolder, name), text);
  const folder = join(place.path, 'models');
  const { group = 'inflight_batcher_llm', values } = options;
  await createRepository({ target: folder, group, engine: '/no/engine', tokenizer: tokenizerFolder, values });
  if (options.backend !== undefined) replaceBackends(folder, options.backend);
  const host = nullEngineHost(tokenizerFolder, options);
  const repository = await openRepository({ folders: [folder], engines: host, ...options.repository });
  return {
    repository,
    host,
    folder,
    close: async () => {
      await repository.close(0);
      place.remove();
    },
  };
}

function replaceBackends(folder: string, backend: string): void {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name, 'config.pbtxt');
    writeFileSync(path, readFileSync(path, 'utf8').replace(/^backend: .*$/m, `backend: "${backend}"`));
  }
}

/** Engines in this process. */
export function nullEngineHost(tokenizerFolder: string, options: EngineModelsOptions): EngineModels['host'] {
  const asked: EngineSpecification[] = [];
  const engines: LocalEngine[] = [];
  return {
    asked,
    engines,
    acquire: async (specification) => {
      asked.push(specification);
      const { says, thenStops = false, stepMs = 0 } = options;
      const deviceOptions: Record<string, string> = { 'step-ms': String(stepMs) };
      if (says !== undefined) {
        deviceOptions.mode = 'script';
        deviceOptions.script = [...bytesOf(says), ...(thenStops ? [endOfTextId] : [])].join(',');
      }
      const size = { vocabularySize: byteVocabularySize, contextLength: 2048 };
      const adapters = { ...nullAdapterSettings, ...specification.adapters };
      const { model, options: core } = await loadModel('null', nullModelSource(size), {
        adapters,
        ...{ device: 'null', deviceOptions, slots: 64, batchTokensMax: 4096, kvDtype: 'f16', threads: 1 },
        prefixReuse: specification.prefixReuse,
        capacityPolicy: specification.capacityPolicy,
      });
      const atStart = { device: 'null', adapters, adaptersAtStart: specification.adaptersAtStart };
      const cache = await openAdapters(model.adapters, atStart, () => nullLinears);
      const engine = new LocalEngine(model, {
        ...core,
        adapters: cache,
        vocabulary: { folder: tokenizerFolder },
      });
      engines.push(engine);
      return { client: engine, tokenizerFolder, release: () => engine.close() };
    },
  };
}
