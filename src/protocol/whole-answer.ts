import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { connectionOf } from './connections.ts';
import { ProtocolError } from './errors.ts';
import { answerBytesMax, answerPieceBytes } from './limits.ts';

/**
 * Sends answers that are too large for one write piece by piece, as their client reads: then one can see whether it does, and a TLS or
 * HTTP layer never copies the whole. All of it counts as unread until it is handed over.
 */
export function sendLargeAnswersInPieces(app: FastifyInstance): void {
  app.addHook('onSend', (_request, reply, payload, done) => {
    const isText = typeof payload === 'string';
    if ((!isText && !Buffer.isBuffer(payload)) || payload.length <= answerPieceBytes) {
      done(null, payload);
      // Written by then.
      setImmediate(() => connectionOf(reply.raw.socket)?.account());
      return;
    }
    const bytes = isText ? Buffer.from(payload) : payload;
    if (bytes.length > answerBytesMax) {
      const problem = `the answer has ${bytes.length} bytes, over the ${answerBytesMax} of one (answerBytesMax)`;
      done(new ProtocolError('ANSWER_TOO_LARGE', `${problem}; ask for less, or stream it`));
      return;
    }
    void reply.header('content-length', bytes.length);
    done(null, inPieces(bytes, reply));
  });
}

function inPieces(bytes: Buffer, reply: FastifyReply): Readable {
  const connection = connectionOf(reply.request.raw.socket);
  let sent = 0;
  let counted = bytes.length;
  const count = (left: number): void => {
    if (!connection) return;
    connection.pendingBytes += left - counted;
    counted = left;
    connection.account();
  };
  if (connection) connection.pendingBytes += counted;
  connection?.account();
  return new Readable({
    highWaterMark: answerPieceBytes,
    read() {
      if (sent >= bytes.length) {
        this.push(null);
        return;
      }
      const piece = bytes.subarray(sent, sent + answerPieceBytes);
      sent += piece.length;
      count(bytes.length - sent);
      this.push(piece);
    },
    destroy(error, done) {
      count(0);
      done(error);
    },
  });
}
