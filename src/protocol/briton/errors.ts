import { Metadata, type StatusObject, status } from '@grpc/grpc-js';
import { type ErrorKind, messageOf, NereidError } from '../../base/errors.ts';

/** gRPC's code for each kind of error; Briton's clients make HTTP 400 of the first two and 500 of the others. */
const statusOfKind: Record<ErrorKind, status> = {
  invalid: status.INVALID_ARGUMENT,
  unsupported: status.UNIMPLEMENTED,
  'not-found': status.NOT_FOUND,
  exhausted: status.RESOURCE_EXHAUSTED,
  unavailable: status.UNAVAILABLE,
  cancelled: status.CANCELLED,
  internal: status.INTERNAL,
};

/** What a call ends with when it fails; the stable code travels as metadata `nereid-error-code`. */
export function statusOf(thrown: unknown): StatusObject {
  const metadata = new Metadata();
  if (!(thrown instanceof NereidError))
    return { code: status.INTERNAL, details: messageOf(thrown), metadata };
  metadata.set('nereid-error-code', thrown.code);
  const isAuthentication = thrown.code === 'UNAUTHENTICATED';
  const code = isAuthentication ? status.UNAUTHENTICATED : statusOfKind[thrown.kind];
  return { code, details: thrown.message, metadata };
}
