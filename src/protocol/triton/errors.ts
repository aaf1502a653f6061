import { type RepositoryError, type RepositoryStatus, toRepositoryError } from '../../repository/errors.ts';
import { httpStatusOf, ProtocolError } from '../errors.ts';
import type { HttpErrorResponse } from '../http-server.ts';

const httpStatuses: Readonly<Partial<Record<RepositoryStatus, number>>> = {
  INTERNAL: 500,
  NOT_FOUND: 404,
  UNAVAILABLE: 503,
  UNSUPPORTED: 501,
};

/** gRPC's numbers, so that a server without a gRPC port need not load it. */
const grpcCodes: Readonly<Record<RepositoryStatus, number>> = {
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  UNSUPPORTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
};

/** gRPC's RESOURCE_EXHAUSTED. */
export const grpcResourceExhausted = 8;

/** tritonserver's HTTP status of an error: four statuses have their own, the others are 400. */
export function httpStatus(error: RepositoryError): number {
  return httpStatuses[error.status] ?? 400;
}

/** An error as a gRPC status. */
export function grpcError(thrown: unknown): { code: number; details: string } {
  if (thrown instanceof ProtocolError && thrown.kind === 'exhausted')
    return { code: grpcResourceExhausted, details: thrown.message };
  const error = toRepositoryError(thrown);
  return { code: grpcCodes[error.status], details: error.message };
}

/** An error body: `{"error": text}`. */
export function errorBody(message: string): string {
  return JSON.stringify({ error: message });
}

/** What the HTTP server words for paths of this protocol: unknown ones and wrong methods in tritonserver's few words. */
export function errorResponse(thrown: unknown): HttpErrorResponse {
  if (thrown instanceof ProtocolError) {
    const code = httpStatusOf(thrown);
    const known = { 404: 'Not Found', 405: 'Method Not Allowed' }[code];
    return { status: code, headers: {}, body: { error: known ?? thrown.message } };
  }
  const error = toRepositoryError(thrown);
  return { status: httpStatus(error), headers: {}, body: { error: error.message } };
}
