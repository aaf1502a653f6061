import { RepositoryError, toRepositoryError } from '../../repository/errors.ts';
import type { LoadParameters, Model, ModelMetadata, ModelStatistics } from '../../repository/model.ts';
import { serverExtensions, type TritonContext } from './context.ts';
import { errorBody, httpStatus } from './errors.ts';
import { type Json, parseJson } from './json-parser.ts';
import { asBoolean, asString, asUnsigned, membersOf, objectOf } from './json-values.ts';
import { type HttpAnswer, jsonAnswer, jsonType, textType } from './responses.ts';
import type { RouteGroups, TritonExchange, TritonRoute } from './routes.ts';
import { answerLogging, answerTraceSettings } from './settings-http.ts';

const empty: HttpAnswer = { status: 200, contentType: jsonType, body: '' };
const get = ['GET'] as const;
const post = ['POST'] as const;
const both = ['GET', 'POST'] as const;

/** All paths under /v2 but inference; the first that matches answers. */
export const tritonRoutes: readonly TritonRoute[] = [
  { pattern: /^\/v2$/, methods: get, api: 'metadata', answer: serverMetadata },
  { pattern: /^\/v2\/health\/(live|ready)$/, methods: get, api: 'health', answer: health },
  { pattern: /^\/v2\/models\/stats$/, methods: get, api: 'statistics', answer: statistics },
  {
    pattern: /^\/v2\/models\/([^/]+)(?:\/versions\/([0-9]+))?\/ready$/,
    methods: get,
    api: 'health',
    answer: modelReady,
  },
  {
    pattern: /^\/v2\/models\/([^/]+)(?:\/versions\/([0-9]+))?$/,
    methods: get,
    api: 'metadata',
    answer: (context, [, name = '', version]) =>
      jsonAnswer(shownMetadata(context.repository.model(name, version), version)),
  },
  {
    pattern: /^\/v2\/models\/([^/]+)(?:\/versions\/([0-9]+))?\/config$/,
    methods: get,
    api: 'model-config',
    answer: (context, [, name = '', version]) => jsonAnswer(context.repository.model(name, version).config),
  },
  {
    pattern: /^\/v2\/models\/([^/]+)(?:\/versions\/([0-9]+))?\/stats$/,
    methods: get,
    api: 'statistics',
    answer: statistics,
  },
  {
    pattern: /^\/v2\/(?:models\/([^/]+)\/)?trace\/setting$/,
    methods: both,
    api: 'trace',
    answer: answerTraceSettings,
  },
  { pattern: /^\/v2\/logging$/, methods: both, api: 'logging', answer: answerLogging },
  {
    pattern: /^\/v2\/repository(?:\/[^/]+)?\/index$/,
    methods: post,
    api: 'model-repository',
    answer: repositoryIndex,
  },
  {
    pattern: /^\/v2\/repository(?:\/([^/]+))?\/models\/([^/]+)\/(load|unload)$/,
    methods: post,
    api: 'model-repository',
    answer: controlModel,
  },
  ...(['status', 'register', 'unregister'] as const).map(
    (action): TritonRoute => ({
      pattern: new RegExp(`^/v2/(system|cuda)sharedmemory(?:/region/([^/]+))?/(${action})$`),
      methods: action === 'status' ? get : post,
      api: 'shared-memory',
      answer: sharedMemory,
    }),
  ),
];

function serverMetadata({ serverId, options }: TritonContext): HttpAnswer {
  return jsonAnswer({ name: serverId, version: options.version, extensions: serverExtensions });
}

/** Whether requests should be sent here. */
export function isServerReady({ repository, options }: TritonContext): boolean {
  return options.notReadyReason?.() === undefined && repository.isReady;
}

function health(context: TritonContext, [, kind]: RouteGroups): HttpAnswer {
  const isWell = kind === 'live' || isServerReady(context);
  return { status: isWell ? 200 : 400, contentType: textType, body: '' };
}

function modelReady({ repository }: TritonContext, [, name = '', version]: RouteGroups): HttpAnswer {
  const answer = (status: number, body: string): HttpAnswer => ({ status, contentType: textType, body });
  try {
    if (repository.isModelReady(name, version)) return answer(200, '');
    return answer(400, errorBody('Model version not ready'));
  } catch (thrown) {
    const error = toRepositoryError(thrown);
    return answer(httpStatus(error), errorBody(error.message));
  }
}

/** Asked for a version, a model shows only that one. */
export function shownMetadata({ metadata, version }: Model, askedVersion: string | undefined): ModelMetadata {
  return askedVersion ? { ...metadata, versions: [version] } : metadata;
}

/** A model's statistics as the protocol knows them: what is for metrics only is left out. */
export function wireStatistics({
  failures: _failures,
  pendingRequests: _pending,
  loadSeconds: _load,
  ...shown
}: ModelStatistics): Omit<ModelStatistics, 'failures' | 'pendingRequests' | 'loadSeconds'> {
  return shown;
}

function statistics({ repository }: TritonContext, [, name, version]: RouteGroups): HttpAnswer {
  return jsonAnswer({ model_stats: repository.statistics(name, version).map(wireStatistics) });
}

/** The body's JSON; an empty body is none. */
function optionalJson(body: Buffer): Json | undefined {
  return body.length === 0 ? undefined : parseJson(body);
}

function repositoryIndex(
  { repository }: TritonContext,
  _groups: RouteGroups,
  { body }: TritonExchange,
): HttpAnswer {
  const ready = objectOf(optionalJson(body))?.get('ready');
  const entries = repository.index(ready === undefined ? false : asBoolean(ready));
  return jsonAnswer(
    entries.map(({ name, version, state, reason }) => ({
      name,
      ...(version && { version }),
      ...(state && { state }),
      ...(reason && { reason }),
    })),
  );
}

async function controlModel(
  { repository }: TritonContext,
  [, repositoryName, name = '', action]: RouteGroups,
  { body }: TritonExchange,
): Promise<HttpAnswer> {
  refuseRepositoryName(repositoryName);
  const json = optionalJson(body);
  const given = objectOf(json)?.get('parameters');
  if (action === 'load') await repository.load(name, given === undefined ? {} : loadParameters(given));
  else
    await repository.unload(name, { unloadDependents: objectOf(given)?.get('unload_dependents') === true });
  return empty;
}

/** @throws RepositoryError UNSUPPORTED: models are named without their folder */
export function refuseRepositoryName(repositoryName: string | undefined): void {
  if (!repositoryName) return;
  throw new RepositoryError('UNSUPPORTED', "'repository_name' specification is not supported");
}

const filePrefix = 'file:';

function loadParameters(given: Json): LoadParameters {
  const files: Record<string, Uint8Array> = Object.create(null);
  let config: string | undefined;
  for (const [name, value] of membersOf(given)) {
    if (name === 'config') config = asString(value);
    else if (name.startsWith(filePrefix)) {
      files[name.slice(filePrefix.length)] = Buffer.from(asString(value), 'base64');
    } else throw new RepositoryError('INTERNAL', 'unexpected error on creating Triton parameter');
  }
  return { config, ...(Object.keys(files).length > 0 && { files }) };
}

function sharedMemory(
  context: TritonContext,
  [, kind, name = '', action]: RouteGroups,
  exchange: TritonExchange,
): HttpAnswer {
  const isCuda = kind === 'cuda';
  if (action === 'register') {
    register(context, isCuda, name, exchange.body);
    return empty;
  }
  if (action === 'unregister') {
    if (!isCuda) context.sharedMemory.unregister(name);
    return empty;
  }
  return jsonAnswer(isCuda ? cudaStatus(name) : context.sharedMemory.status(name));
}

/** There is no CUDA memory to share here. @throws RepositoryError NOT_FOUND for a region's name */
export function cudaStatus(name: string): [] {
  if (name === '') return [];
  throw new RepositoryError('NOT_FOUND', `Unable to find cuda shared memory region: '${name}'`);
}

function register(context: TritonContext, isCuda: boolean, name: string, body: Buffer): void {
  if (name === '') {
    const message = `'region name' is necessary to register ${isCuda ? 'cuda' : 'system'} shared memory region`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  const members = objectOf(parseJson(body));
  const field = (field: string): Json => {
    const value = members?.get(field);
    if (value !== undefined) return value;
    throw new RepositoryError('INVALID_ARGUMENT', `Shared memory register request has no '${field}' field`);
  };
  if (isCuda) {
    const handle = objectOf(field('raw_handle'))?.get('b64');
    registerCuda(Buffer.from(typeof handle === 'string' ? handle : '', 'base64'));
  }
  const key = asString(field('key'));
  const offset = members?.get('offset');
  const byteSize = Number(asUnsigned(field('byte_size')));
  context.sharedMemory.register(name, key, offset === undefined ? 0 : Number(asUnsigned(offset)), byteSize);
}

/** Of a `cudaIpcMemHandle_t`. */
export const cudaHandleBytes = 64;

/** As tritonserver without a GPU. @throws RepositoryError INVALID_ARGUMENT always */
export function registerCuda(handle: Uint8Array): never {
  const message =
    handle.length === cudaHandleBytes
      ? 'failed to register shared memory region: invalid args'
      : "'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t";
  throw new RepositoryError('INVALID_ARGUMENT', message);
}
