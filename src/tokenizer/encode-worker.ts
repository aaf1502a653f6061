import { parentPort, workerData } from 'node:worker_threads';
import { definite, messageOf } from '../base/errors.ts';
import { workerReady } from '../base/worker-pool.ts';
import { phases } from '../trace/phases.ts';
import { threadTracer } from '../trace/process-tracer.ts';
import type { EncodeJob, EncodeResult } from './encode-pool.ts';
import { TokenizerError } from './errors.ts';
import { JsonTokenizer, type TokenizerFiles } from './json-tokenizer.ts';

// The thread behind EncodePool: makes its own tokenizer once, then one text a message.
const port = definite(parentPort, "the worker's port");
threadTracer.start('encode-worker', false);
const tokenizer = new JsonTokenizer(workerData as TokenizerFiles);

port.on('message', ({ text, options }: EncodeJob) => {
  try {
    threadTracer.begin(phases.tokenize);
    const ids = tokenizer.encode(text, options);
    threadTracer.end(phases.tokenize);
    port.postMessage({ ids } satisfies EncodeResult, [ids.buffer as ArrayBuffer]);
  } catch (error) {
    const code = error instanceof TokenizerError ? error.code : 'ENCODE_WORKER_FAILED';
    port.postMessage({ code, message: messageOf(error) } as EncodeResult);
  }
});
port.postMessage(workerReady);
