import { RepositoryError } from '../../repository/errors.ts';
import type { LoadParameters } from '../../repository/model.ts';
import type { PlainMessage } from '../proto-messages.ts';
import {
  cudaHandleBytes,
  cudaStatus,
  isServerReady,
  refuseRepositoryName,
  registerCuda,
  shownMetadata,
  wireStatistics,
} from './administration.ts';
import { type RestrictedApi, serverExtensions, type TritonContext } from './context.ts';
import { checkVersion } from './grpc-versions.ts';
import { grpcLogSettings, grpcTraceSettings } from './settings-grpc.ts';

/** One RPC beside inference: messages are plain objects with the names of `proto/grpc_service.proto`. */
export interface GrpcAdministration {
  name: string;
  api: RestrictedApi;
  answer(context: TritonContext, request: PlainMessage): PlainMessage | Promise<PlainMessage>;
}

const text = (value: unknown): string => String(value ?? '');
const nothing = {};

/** The model and version that a request names. @throws RepositoryError for a version that is no number */
function named({ name, version }: PlainMessage): [string, string] {
  checkVersion(text(version));
  return [text(name), text(version)];
}

/** All RPCs but ModelInfer and ModelStreamInfer. */
export const grpcAdministration: readonly GrpcAdministration[] = [
  { name: 'ServerLive', api: 'health', answer: () => ({ live: true }) },
  { name: 'ServerReady', api: 'health', answer: (context) => ({ ready: isServerReady(context) }) },
  {
    name: 'ModelReady',
    api: 'health',
    answer: ({ repository }, request) => ({ ready: repository.isModelReady(...named(request)) }),
  },
  {
    name: 'ServerMetadata',
    api: 'metadata',
    answer: ({ serverId, options }) => ({
      name: serverId,
      version: options.version,
      extensions: serverExtensions,
    }),
  },
  {
    name: 'ModelMetadata',
    api: 'metadata',
    answer: ({ repository }, request) => {
      const [name, version] = named(request);
      return { ...shownMetadata(repository.model(name, version), version) };
    },
  },
  {
    name: 'ModelConfig',
    api: 'model-config',
    answer: ({ repository }, request) => ({ config: repository.model(...named(request)).config }),
  },
  {
    name: 'ModelStatistics',
    api: 'statistics',
    answer: ({ repository }, request) => ({
      model_stats: repository.statistics(...named(request)).map(wireStatistics),
    }),
  },
  { name: 'RepositoryIndex', api: 'model-repository', answer: repositoryIndex },
  { name: 'RepositoryModelLoad', api: 'model-repository', answer: loadModel },
  { name: 'RepositoryModelUnload', api: 'model-repository', answer: unloadModel },
  {
    name: 'SystemSharedMemoryStatus',
    api: 'shared-memory',
    answer: ({ sharedMemory }, { name }) => ({
      regions: Object.fromEntries(sharedMemory.status(text(name)).map((region) => [region.name, region])),
    }),
  },
  {
    name: 'SystemSharedMemoryRegister',
    api: 'shared-memory',
    answer: ({ sharedMemory }, { name, key, offset, byte_size }) => {
      sharedMemory.register(text(name), text(key), Number(offset), Number(byte_size));
      return nothing;
    },
  },
  {
    name: 'SystemSharedMemoryUnregister',
    api: 'shared-memory',
    answer: ({ sharedMemory }, { name }) => {
      sharedMemory.unregister(text(name));
      return nothing;
    },
  },
  {
    name: 'CudaSharedMemoryStatus',
    api: 'shared-memory',
    answer: (_context, { name }) => ({ regions: Object.fromEntries(cudaStatus(text(name))) }),
  },
  {
    name: 'CudaSharedMemoryRegister',
    api: 'shared-memory',
    // Only over HTTP is a handle's length looked at.
    answer: () => registerCuda(Buffer.alloc(cudaHandleBytes)),
  },
  { name: 'CudaSharedMemoryUnregister', api: 'shared-memory', answer: () => nothing },
  { name: 'TraceSetting', api: 'trace', answer: grpcTraceSettings },
  { name: 'LogSettings', api: 'logging', answer: grpcLogSettings },
];

function repositoryIndex(
  { repository }: TritonContext,
  { repository_name, ready }: PlainMessage,
): PlainMessage {
  refuseRepositoryName(text(repository_name));
  return { models: repository.index(ready === true) };
}

/** `ModelRepositoryParameter` with protobufjs's mark of the field that is set. */
interface RepositoryParameter {
  parameter_choice?: string;
  bool_param?: boolean;
  string_param?: string;
  bytes_param?: Uint8Array;
}

const filePrefix = 'file:';

async function loadModel({ repository }: TritonContext, request: PlainMessage): Promise<PlainMessage> {
  refuseRepositoryName(text(request.repository_name));
  await repository.load(text(request.model_name), loadParameters(parametersOf(request)));
  return nothing;
}

function parametersOf({ parameters }: PlainMessage): Record<string, RepositoryParameter> {
  return (parameters ?? {}) as Record<string, RepositoryParameter>;
}

function loadParameters(parameters: Record<string, RepositoryParameter>): LoadParameters {
  const files: Record<string, Uint8Array> = Object.create(null);
  let config: string | undefined;
  const expect = (name: string, parameter: RepositoryParameter, kind: string): void => {
    if (parameter.parameter_choice === kind) return;
    const message = `invalid value type for load parameter '${name}', expected ${kind}.`;
    throw new RepositoryError('INVALID_ARGUMENT', message);
  };
  for (const [name, parameter] of Object.entries(parameters)) {
    if (name === 'config') {
      expect(name, parameter, 'string_param');
      config = parameter.string_param;
    } else if (name.startsWith(filePrefix)) {
      expect(name, parameter, 'bytes_param');
      files[name.slice(filePrefix.length)] = parameter.bytes_param ?? new Uint8Array(0);
    } else throw new RepositoryError('INVALID_ARGUMENT', `unrecognized load parameter '${name}'.`);
  }
  return { config, ...(Object.keys(files).length > 0 && { files }) };
}

async function unloadModel({ repository }: TritonContext, request: PlainMessage): Promise<PlainMessage> {
  refuseRepositoryName(text(request.repository_name));
  const dependents = parametersOf(request).unload_dependents;
  if (dependents && dependents.parameter_choice !== 'bool_param') {
    const message = "invalid value type for 'unload_dependents' parameter, expected bool_param.";
    throw new RepositoryError('INVALID_ARGUMENT', message);
  }
  await repository.unload(text(request.model_name), { unloadDependents: dependents?.bool_param === true });
  return nothing;
}
