import { parentPort, workerData } from 'node:worker_threads';
import { definite } from '../../base/errors.ts';
import { GuideFollower } from './guide-follower.ts';
import { MaskBoard } from './mask-board.ts';
import { loadVocabulary } from './vocabulary.ts';
import type { GuidanceCommand, GuidanceReport, GuidanceWorkerData } from './worker-messages.ts';
import { XGrammarCompiler } from './xgrammar-compiler.ts';

/** The thread beside an engine that knows grammars. */

const port = definite(parentPort, "the worker's port");
const { vocabulary, board: memory, memoryBytesMax } = workerData as GuidanceWorkerData;
const report = (what: GuidanceReport): void => port.postMessage(what);
const compiler = new XGrammarCompiler(
  await loadVocabulary(vocabulary),
  memory.vocabularySize,
  memoryBytesMax,
);
const follower = new GuideFollower(compiler, new MaskBoard(memory), report);

let queue: Promise<void> = Promise.resolve();
port.on('message', (commands: readonly GuidanceCommand[]) => {
  queue = queue.then(() => follower.work(commands));
  // A broken call must end the thread: the engine starts another one.
  queue.catch((thrown: unknown) => {
    queueMicrotask(() => {
      throw thrown;
    });
  });
});
report({ kind: 'ready' });
