import { parentPort } from 'node:worker_threads';
import { definite, messageOf } from '../base/errors.ts';
import { workerReady } from '../base/worker-pool.ts';
import { renderChat } from './chat-template.ts';
import { TokenizerError, type TokenizerErrorCode } from './errors.ts';
import type { RenderJob, RenderResult } from './template-pool.ts';

// The thread behind TemplatePool: one chat a message.
const port = definite(parentPort, "the worker's port");

port.on('message', ({ template, input }: RenderJob) => {
  let result: RenderResult;
  try {
    result = { text: renderChat(template, input) };
  } catch (error) {
    const code =
      error instanceof TokenizerError ? (error.code as TokenizerErrorCode) : 'TEMPLATE_WORKER_FAILED';
    result = { code, message: messageOf(error) };
  }
  port.postMessage(result);
});
port.postMessage(workerReady);
