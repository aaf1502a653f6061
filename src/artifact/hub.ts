import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, readFileSync, statSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { messageOf } from '../base/errors.ts';
import { makeFolder } from '../builder/make-folder.ts';
import type { Reporter } from '../builder/reporter.ts';
import type { Cache } from './cache.ts';
import { ArtifactError } from './errors.ts';

/** A repository of the Hugging Face hub at a revision (branch, tag or commit), and one file of it where it holds several models. */
export interface HubReference {
  repository: string;
  revision: string;
  file?: string;
}

/** Files of a repository that a model needs; the rest (other frameworks' weights, pictures) stays on the hub. */
const wantedFiles =
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|model\.safetensors\.index)\.json$|^chat_template\.jinja$|^[^/]+\.safetensors$|^tokenizer\.model$/;

/** How long the hub may take to begin an answer. */
const answerTimeoutMs = 15_000;

/** Files that a model repository may have; more is not walked. */
const repositoryFilesMax = 10_000;

interface HubFile {
  path: string;
  bytes: number;
  /** Large files (LFS) only. */
  sha256?: string;
}

/** Reads `org/name`, `org/name@revision`, `org/name:file.gguf`; undefined for anything else. */
export function parseHubReference(reference: string): HubReference | undefined {
  const name = '[A-Za-z0-9][A-Za-z0-9._-]{0,95}';
  const match = new RegExp(`^(${name}/${name})(?:@([A-Za-z0-9._/-]{1,128}))?(?::([^:]+\\.gguf))?$`).exec(
    reference,
  );
  if (!match?.[1] || match[2]?.includes('..') || match[3]?.includes('..')) return undefined;
  return { repository: match[1], revision: match[2] ?? 'main', file: match[3] };
}

function repositoryFolder(cache: Cache, { repository }: HubReference): string {
  return join(cache.root, 'hub', repository.replace('/', '--'));
}

/** A snapshot that an earlier run completed, found without a network. */
export function cachedSnapshot(cache: Cache, reference: HubReference): string | undefined {
  const folder = repositoryFolder(cache, reference);
  const pointer = join(folder, `ref-${encodeURIComponent(reference.revision)}`);
  const commit = existsSync(pointer) ? readFileSync(pointer, 'utf8').trim() : reference.revision;
  if (!/^[0-9a-f]{40}$/.test(commit)) return undefined;
  const snapshot = join(folder, commit);
  if (reference.file) return fileIn(snapshot, reference.file);
  if (!existsSync(join(snapshot, 'snapshot.json'))) return undefined;
  const { model } = JSON.parse(readFileSync(join(snapshot, 'snapshot.json'), 'utf8')) as { model?: string };
  return model ? fileIn(snapshot, model) : snapshot;
}

function fileIn(snapshot: string, file: string): string | undefined {
  const path = join(snapshot, file);
  return existsSync(path) ? path : undefined;
}

/**
 * Downloads what a model needs of a repository into the cache. Files that are there already are kept, so a broken download goes on with
 * the file that it broke at.
 * @returns the folder, or the `.gguf` file where the repository holds one model in that format
 * @throws ArtifactError DOWNLOAD_FAILED with what the hub said
 */
export async function downloadSnapshot(
  cache: Cache,
  reference: HubReference,
  reporter: Reporter,
  signal?: AbortSignal,
): Promise<string> {
  try {
    const { commit, files } = await listRepository(reference, signal);
    const { wanted, model } = chooseFiles(reference, files);
    const folder = repositoryFolder(cache, reference);
    const snapshot = await cache.makeFolder(join(folder, commit));
    reporter.start(
      `Downloading ${reference.repository}`,
      wanted.reduce((sum, file) => sum + file.bytes, 0),
    );
    for (const file of wanted) await downloadFile(snapshot, reference, commit, file, reporter, signal);
    reporter.finish();
    if (!reference.file) await writeFile(join(snapshot, 'snapshot.json'), `${JSON.stringify({ model })}\n`);
    await writeFile(join(folder, `ref-${encodeURIComponent(reference.revision)}`), `${commit}\n`);
    return model ? join(snapshot, model) : snapshot;
  } catch (thrown) {
    reporter.finish();
    signal?.throwIfAborted();
    if (thrown instanceof ArtifactError) throw thrown;
    throw new ArtifactError('DOWNLOAD_FAILED', hubProblem(reference, thrown), { cause: thrown });
  }
}

function hubProblem({ repository, revision }: HubReference, thrown: unknown): string {
  const status = (thrown as { statusCode?: unknown } | null)?.statusCode;
  if (status === 401 || status === 403) {
    return `the hub does not give ${repository} to this user; check the name, accept its licence there, and set HF_TOKEN`;
  }
  if (status === 404) return `the hub has no ${repository} at revision '${revision}'; check the name`;
  const cause = thrown instanceof Error && thrown.cause ? ` (${messageOf(thrown.cause)})` : '';
  return `cannot reach the Hugging Face hub: ${messageOf(thrown)}${cause}; check the network, or give a local folder or .gguf file`;
}

/** What the hub's client needs in every call. HF_ENDPOINT and HF_TOKEN are the hub's own variables. */
function hubParameters({ repository }: HubReference, signal?: AbortSignal) {
  return {
    repo: { type: 'model' as const, name: repository },
    fetch: patientFetch(signal),
    ...(process.env.HF_ENDPOINT ? { hubUrl: process.env.HF_ENDPOINT } : {}),
    ...(process.env.HF_TOKEN ? { accessToken: process.env.HF_TOKEN } : {}),
  };
}

/** `fetch` that gives up when no answer begins in time, but lets a slow body take as long as it needs. */
function patientFetch(signal?: AbortSignal): typeof fetch {
  return async (input, init) => {
    const timeout = new AbortController();
    const timer = setTimeout(
      () => timeout.abort(new Error(`no answer within ${answerTimeoutMs / 1000} s`)),
      answerTimeoutMs,
    );
    const signals = [timeout.signal, signal, init?.signal].filter(
      (one): one is AbortSignal => one instanceof AbortSignal,
    );
    try {
      return await fetch(input, { ...init, signal: AbortSignal.any(signals) });
    } finally {
      clearTimeout(timer);
    }
  };
}

async function listRepository(
  reference: HubReference,
  signal?: AbortSignal,
): Promise<{ commit: string; files: HubFile[] }> {
  const hub = await import('@huggingface/hub');
  const parameters = hubParameters(reference, signal);
  const { repository: name, revision } = reference;
  const info = await hub.modelInfo({ ...parameters, name, revision, additionalFields: ['sha'] });
  const files: HubFile[] = [];
  for await (const file of hub.listFiles({ ...parameters, revision: info.sha, recursive: true })) {
    if (files.length >= repositoryFilesMax) break;
    if (file.type === 'file') files.push({ path: file.path, bytes: file.size, sha256: file.lfs?.oid });
  }
  return { commit: info.sha, files };
}

/** The files of the model in a repository; `model` where it is a single GGUF file. */
function chooseFiles(reference: HubReference, files: HubFile[]): { wanted: HubFile[]; model?: string } {
  const models = files.filter((file) => file.path.endsWith('.gguf'));
  if (reference.file) return { wanted: [ggufFile(reference, models, reference.file)], model: reference.file };
  if (files.some((file) => file.path.endsWith('.safetensors') && !file.path.includes('/'))) {
    return { wanted: files.filter((file) => wantedFiles.test(file.path)) };
  }
  const [model] = models;
  if (model && models.length === 1) return { wanted: [model], model: model.path };
  const { repository } = reference;
  if (model) {
    const names = models.slice(0, 8).map((file) => file.path);
    const fix = `name one of them, such as ${repository}:${model.path} (there are ${names.join(', ')})`;
    throw new ArtifactError('MODEL_NOT_FOUND', `${repository} holds ${models.length} GGUF models; ${fix}`);
  }
  const problem = `${repository} has neither safetensors nor GGUF weights`;
  throw new ArtifactError('MODEL_NOT_FOUND', `${problem}; choose another repository of the model`);
}

function ggufFile({ repository }: HubReference, models: HubFile[], path: string): HubFile {
  const found = models.find((file) => file.path === path);
  if (found) return found;
  const known = models.slice(0, 8).map((file) => file.path);
  const fix = known.length > 0 ? `it has ${known.join(', ')}` : 'it has no .gguf files';
  throw new ArtifactError('MODEL_NOT_FOUND', `${repository} has no file ${path}; ${fix}`);
}

async function downloadFile(
  snapshot: string,
  reference: HubReference,
  commit: string,
  file: HubFile,
  reporter: Reporter,
  signal?: AbortSignal,
): Promise<void> {
  const target = join(snapshot, file.path);
  if (existsSync(target) && statSync(target).size === file.bytes) {
    reporter.advance(file.bytes);
    return;
  }
  const hub = await import('@huggingface/hub');
  const parameters = hubParameters(reference, signal);
  const blob = await hub.downloadFile({ ...parameters, path: file.path, revision: commit });
  if (!blob)
    throw new ArtifactError('DOWNLOAD_FAILED', `the hub lists ${file.path}, but does not send it; try again`);
  await makeFolder(dirname(target));
  const partial = `${target}.partial-${process.pid}`;
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      reporter.advance(chunk.length);
      done(null, chunk);
    },
  });
  try {
    const body = Readable.fromWeb(blob.stream() as Parameters<typeof Readable.fromWeb>[0]);
    await pipeline(body, counter, createWriteStream(partial), { signal });
    await checkDownload(partial, file);
    await rename(partial, target);
  } finally {
    await rm(partial, { force: true });
  }
}

async function checkDownload(path: string, file: HubFile): Promise<void> {
  const { size } = statSync(path);
  if (size !== file.bytes) {
    const problem = `${file.path} came with ${size} of ${file.bytes} bytes`;
    throw new ArtifactError('DOWNLOAD_CORRUPT', `${problem}; try again`);
  }
  if (!file.sha256) return;
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  if (hash.digest('hex') === file.sha256) return;
  throw new ArtifactError('DOWNLOAD_CORRUPT', `${file.path} does not match the hub's hash; try again`);
}

/** Whether the hub answers at all. @returns undefined when it does, else what went wrong */
export async function hubAnswers(): Promise<string | undefined> {
  const hub = await import('@huggingface/hub');
  const reference = { repository: 'HuggingFaceTB/SmolLM2-135M-Instruct', revision: 'main' };
  try {
    await hub.modelInfo({
      ...hubParameters(reference),
      name: reference.repository,
      additionalFields: ['sha'],
    });
    return undefined;
  } catch (thrown) {
    const cause = thrown instanceof Error && thrown.cause ? ` (${messageOf(thrown.cause)})` : '';
    return `no answer: ${messageOf(thrown)}${cause}`;
  }
}
