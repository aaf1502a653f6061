import type { ModelRepository } from '../../repository/model.ts';
import type { ApiKeys } from '../authentication.ts';
import { defaultLogSettings, type LogSettings, TraceSettings } from './settings.ts';
import { SharedMemory } from './shared-memory.ts';

/** What server metadata and the logs call the server, and what it can do beyond the base protocol. */
export const serverExtensions: readonly string[] = [
  'classification',
  'sequence',
  'model_repository',
  'model_repository(unload_dependents)',
  'schedule_policy',
  'model_configuration',
  'system_shared_memory',
  'cuda_shared_memory',
  'binary_tensor_data',
  'parameters',
  'statistics',
  'trace',
  'logging',
];

/** What the front end is made of. */
export interface TritonOptions {
  repository: ModelRepository;
  /** Nereid's, for the metadata. */
  version: string;
  /** The server's name in its metadata. Default: 'triton', which clients compare with. */
  serverId?: string;
  /** APIs that ask for a header (tritonserver's `--http-restricted-api`, `--grpc-restricted-protocol`). */
  restrictions?: Readonly<Partial<Record<WireProtocol, readonly Restriction[]>>>;
  /** Requests must show one (`authorization: Bearer KEY`), but for probes. Absent: none is asked for. */
  keys?: ApiKeys;
  /** Unread bytes of one stream at which its requests are cancelled. */
  streamBufferBytesMax?: number;
  /** Hears of changed log settings. */
  applyLogSettings?(settings: LogSettings): void;
  /** A reason not to be ready (draining). */
  notReadyReason?(): string | undefined;
}

/** Groups of APIs that can be restricted; tritonserver's names. */
export const restrictedApis = [
  'health',
  'metadata',
  'inference',
  'shared-memory',
  'model-config',
  'model-repository',
  'statistics',
  'trace',
  'logging',
] as const;

export type RestrictedApi = (typeof restrictedApis)[number];

/** What a request came over. */
export type WireProtocol = 'http' | 'grpc';

/** Requests to these APIs need that header with that value. */
export interface Restriction {
  apis: readonly RestrictedApi[];
  header: string;
  value: string;
}

/** What HTTP and gRPC share: one server has one of it. */
export interface TritonContext {
  readonly options: TritonOptions;
  readonly repository: ModelRepository;
  readonly serverId: string;
  readonly keys: ApiKeys | undefined;
  readonly sharedMemory: SharedMemory;
  readonly traceSettings: TraceSettings;
  logSettings: LogSettings;
  /** The header that an API asks for. */
  restrictionOf(protocol: WireProtocol, api: RestrictedApi): Restriction | undefined;
  close(): void;
}

/** The state of one server. */
export function createTritonContext(options: TritonOptions): TritonContext {
  const sharedMemory = new SharedMemory();
  const byApi = { http: restrictionsByApi(options, 'http'), grpc: restrictionsByApi(options, 'grpc') };
  return {
    options,
    repository: options.repository,
    serverId: options.serverId ?? 'triton',
    keys: options.keys,
    sharedMemory,
    traceSettings: new TraceSettings(),
    logSettings: defaultLogSettings(),
    restrictionOf: (protocol, api) => byApi[protocol].get(api),
    close: () => sharedMemory.close(),
  };
}

function restrictionsByApi(
  { restrictions }: TritonOptions,
  protocol: WireProtocol,
): ReadonlyMap<RestrictedApi, Restriction> {
  const all = restrictions?.[protocol] ?? [];
  return new Map(all.flatMap((restriction) => restriction.apis.map((api) => [api, restriction] as const)));
}
