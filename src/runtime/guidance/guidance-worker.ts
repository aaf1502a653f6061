import { parentPort, workerData } from 'node:worker_threads';
import type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from '@mlc-ai/web-xgrammar';
import { definite, messageOf } from '../../base/errors.ts';
import type { Guide } from './guide.ts';
import { guideState, MaskBoard } from './mask-board.ts';
import { loadVocabulary, textsOf } from './vocabulary.ts';
import type { GuidanceCommand, GuidanceReport, GuidanceWorkerData } from './worker-messages.ts';
import { loadXGrammar } from './xgrammar-library.ts';

/**
 * The thread beside an engine that knows grammars: compiles them, follows each guided sequence's tokens, and writes which may come next to the
 * shared board. One command after the other.
 */

interface OpenPlace {
  matcher: GrammarMatcher;
  isOver: boolean;
}

const port = definite(parentPort, "the worker's port");
const { vocabulary: vocabularySource, board: memory, memoryBytesMax } = workerData as GuidanceWorkerData;
const board = new MaskBoard(memory);
const { library, takeMessages, memoryBytes } = loadXGrammar();
const vocabulary = await loadVocabulary(vocabularySource);
/** By the special tokens that may be written. */
const compilers = new Map<string, GrammarCompiler>();
const grammars = new Map<number, CompiledGrammar>();
const places = new Map<number, OpenPlace>();
let isWorn = false;

function report(what: GuidanceReport): void {
  port.postMessage(what);
}

/** Of the ids that end a request's text, those that stand for none: the others end it when they come, as text. */
function textless(stopTokenIds: readonly number[]): number[] {
  return stopTokenIds.filter(
    (id) => (vocabulary.tokens[id] ?? '') === '' || vocabulary.stopTokenIds.includes(id),
  );
}

async function compilerFor(specialTokens: readonly string[]): Promise<GrammarCompiler> {
  const key = JSON.stringify(specialTokens);
  let compiler = compilers.get(key);
  if (!compiler) {
    const texts = textsOf(vocabulary, specialTokens);
    const stops = [...vocabulary.stopTokenIds];
    const size = memory.vocabularySize;
    const information = await library.TokenizerInfo.createTokenizerInfo(
      texts.slice(0, size),
      'byte_level',
      false,
      size,
      stops,
    );
    compiler = await library.GrammarCompiler.createGrammarCompiler(information, false);
    compilers.set(key, compiler);
  }
  return compiler;
}

async function compiled({ kind, source, specialTokens = [] }: Guide): Promise<CompiledGrammar> {
  const compiler = await compilerFor(specialTokens);
  return kind === 'grammar' ? compiler.compileGrammar(source) : compiler.compileStructuralTag(source);
}

async function compile(grammar: number, guide: Guide): Promise<void> {
  const startMs = performance.now();
  takeMessages();
  try {
    grammars.set(grammar, await compiled(guide));
    report({ kind: 'compiled', grammar, compileMs: performance.now() - startMs });
  } catch (thrown) {
    report({ kind: 'compiled', grammar, problem: problemOf(thrown), compileMs: performance.now() - startMs });
    wear();
  }
  if (memoryBytes() > memoryBytesMax) wear();
}

/** The library prints what is wrong with its own file and line in front, then aborts without saying more. */
function problemOf(thrown: unknown): string {
  const told = takeMessages()
    .map((line) => /\.cc:\d+: (.*)$/s.exec(line)?.[1])
    .filter((line) => line !== undefined);
  return told.length > 0 ? told.join('; ').slice(0, 500) : messageOf(thrown);
}

function wear(): void {
  if (isWorn) return;
  isWorn = true;
  report({ kind: 'worn' });
}

async function open(command: Extract<GuidanceCommand, { kind: 'open' }>): Promise<void> {
  const { place, grammar, tokens, stopTokenIds, ticket } = command;
  const compiledGrammar = definite(grammars.get(grammar), 'an open sequence has a grammar');
  const stops = textless(stopTokenIds);
  const matcher = await library.GrammarMatcher.createGrammarMatcher(
    compiledGrammar,
    stops.length > 0 ? stops : undefined,
    stops.length === 0,
  );
  const opened: OpenPlace = { matcher, isOver: false };
  places.set(place, opened);
  for (const token of tokens) advance(opened, token);
  await answer(place, opened, ticket);
}

function advance(opened: OpenPlace, token: number): void {
  if (!opened.isOver && !opened.matcher.acceptToken(token)) opened.isOver = true;
}

async function answer(place: number, { matcher, isOver }: OpenPlace, ticket: number): Promise<void> {
  if (isOver) board.answer(place, ticket, guideState.stuck);
  else if (matcher.isTerminated()) board.answer(place, ticket, guideState.done);
  else {
    const mask = await matcher.getNextTokenBitmask();
    const state = mask.every((word) => word === 0) ? guideState.stuck : guideState.mask;
    board.answer(place, ticket, state, mask);
  }
}

function close(place: number): void {
  places.get(place)?.matcher.dispose();
  places.delete(place);
}

async function obey(command: GuidanceCommand): Promise<void> {
  switch (command.kind) {
    case 'compile':
      return compile(command.grammar, command.guide);
    case 'drop':
      grammars.get(command.grammar)?.dispose();
      grammars.delete(command.grammar);
      return;
    case 'open':
      return open(command);
    case 'accept': {
      const opened = definite(places.get(command.place), 'a token for an open place');
      advance(opened, command.token);
      return answer(command.place, opened, command.ticket);
    }
    case 'close':
      return close(command.place);
  }
}

async function work(commands: readonly GuidanceCommand[]): Promise<void> {
  for (const command of commands) {
    board.begin('place' in command ? command.place : undefined);
    await obey(command);
    board.end();
    if (board.takeAwaited()) report({ kind: 'answered' });
  }
}

let queue: Promise<void> = Promise.resolve();
port.on('message', (commands: readonly GuidanceCommand[]) => {
  queue = queue.then(() => work(commands));
  // A broken call must end the thread: the engine starts another one.
  queue.catch((thrown: unknown) => {
    queueMicrotask(() => {
      throw thrown;
    });
  });
});
report({ kind: 'ready' });
