import type { Metadata } from '@grpc/grpc-js';
import { messageOf } from '../../base/errors.ts';
import { RepositoryError } from '../../repository/errors.ts';
import { ProtocolError } from '../errors.ts';
import type { RestrictedApi, TritonContext } from './context.ts';
import { grpcError } from './errors.ts';

/** Metadata that carries a restriction's value is named after it with this in front; tritonserver's rule. */
const restrictionPrefix = 'triton-grpc-protocol-';

const resourceExhausted = 8;
const unauthenticated = 16;

/** Whether a call may go on. */
export type Admission =
  /** To be called when the call is over; more often does no harm. */
  | { end: () => void }
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
  if (!context.keys || api === 'health') return { end: () => {} };
  const shown = /^Bearer +(.+)$/i.exec(String(metadata.get('authorization')[0] ?? ''))?.[1];
  try {
    const end = context.keys.check(shown).begin();
    let isOver = false;
    return {
      end: () => {
        if (!isOver) end();
        isOver = true;
      },
    };
  } catch (thrown) {
    const isLimit = thrown instanceof ProtocolError && thrown.code === 'RATE_LIMITED';
    return { refusal: { code: isLimit ? resourceExhausted : unauthenticated, details: messageOf(thrown) } };
  }
}
