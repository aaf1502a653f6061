import type { FastifyReply, FastifyRequest } from 'fastify';
import { messageOf } from '../../base/errors.ts';
import type { Inference, InferenceListener, InferResponse } from '../../repository/model.ts';
import { EventStream } from '../event-stream.ts';
import type { TritonContext } from './context.ts';
import { errorBody } from './errors.ts';

/** An event is `data: JSON` and an empty line; nothing marks the end. */
const event = (json: string): string => `data: ${json}\n\n`;

/** The exchange that a stream answers. */
export interface StreamedCall {
  context: TritonContext;
  request: FastifyRequest;
  reply: FastifyReply;
}

/**
 * Answers `generate_stream`: every response one event; the first decides the status. The request is cancelled when its client leaves
 * or reads too slowly.
 * @param start the inference; what it throws is the caller's to answer
 * @param jsonOf a response as JSON
 */
export function streamGenerated(
  { context, request, reply }: StreamedCall,
  start: (listener: InferenceListener) => Inference,
  jsonOf: (response: InferResponse) => string,
): void {
  let inference: Inference | undefined;
  let isGone = false;
  const stream = new EventStream(request.raw, reply.raw, {
    bufferBytesMax: context.options.streamBufferBytesMax,
    onAbort: (reason) => {
      isGone = true;
      request.exchange.log.finish = reason;
      inference?.cancel();
    },
  });
  let isOpen = false;
  const open = (status: number): void => {
    if (isOpen) return;
    isOpen = true;
    stream.open({}, status);
  };
  try {
    inference = start({
      respond: (response, isFinal) => {
        if (response) {
          const { json, failed } = eventJson(response, jsonOf);
          open(failed ? 400 : 200);
          stream.write(event(json));
        }
        if (!isFinal) return;
        open(200);
        stream.end();
      },
    });
  } catch (thrown) {
    stream.abandon();
    throw thrown;
  }
  if (isGone) inference.cancel();
  reply.hijack();
}

function eventJson(
  response: InferResponse,
  jsonOf: (response: InferResponse) => string,
): { json: string; failed: boolean } {
  if (response.error) return { json: errorBody(response.error.message), failed: true };
  try {
    return { json: jsonOf(response), failed: false };
  } catch (thrown) {
    return { json: errorBody(messageOf(thrown)), failed: true };
  }
}
