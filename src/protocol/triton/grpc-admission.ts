import type { Metadata } from '@grpc/grpc-js';
import { messageOf } from '../../base/errors.ts';
import { RepositoryError } from '../../repository/errors.ts';
import { bearerKey, type KeyUse } from '../authentication.ts';
import type { RestrictedApi, TritonContext } from './context.ts';
import { grpcError } from './errors.ts';

/** Metadata that carries a restriction's value is named after it with this in front; tritonserver's rule. */
const restrictionPrefix = 'triton-grpc-protocol-';

const unauthenticated = 16;

/** Whether a call may go on. */
export type Admission =
  /** Whose key it showed, where keys are asked for: each request begins with it. */
  | { key: KeyUse | undefined }
  /** A gRPC status. */
  | { refusal: { code: number; details: string } };

/** Checks a call's key and restrictions. Probes need neither key. */
export function admit(context: TritonContext, api: RestrictedApi, metadata: Metadata): Admission {
  const restriction = context.restrictionOf('grpc', api);
  const header = `${restrictionPrefix}${restriction?.header}`;
  if (restriction && metadata.get(header.toLowerCase())[0] !== restriction.value) {
    const message = `This protocol is restricted, expecting header '${header}'`;
    return { refusal: grpcError(new RepositoryError('UNAVAILABLE', message)) };
  }
  if (!context.keys || api === 'health') return { key: undefined };
  try {
    return { key: context.keys.check(bearerKey(metadata.get('authorization')[0]?.toString())) };
  } catch (thrown) {
    return { refusal: { code: unauthenticated, details: messageOf(thrown) } };
  }
}

/**
 * One request of a key, held to its limits.
 * @returns what ends it; more often does no harm
 * @throws ProtocolError RATE_LIMITED
 */
export function beginRequest(key: KeyUse | undefined): () => void {
  let end: (() => void) | undefined = key?.begin();
  return () => {
    end?.();
    end = undefined;
  };
}
