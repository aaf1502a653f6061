import { definite, messageOf } from '../../base/errors.ts';
import type { Guide } from './guide.ts';
import type { CompiledGuide, GuideCompiler, GuideMatcher } from './guide-matcher.ts';
import { guideState, type MaskBoard } from './mask-board.ts';
import type { GuidanceCommand, GuidanceReport } from './worker-messages.ts';

interface FollowedPlace {
  readonly matcher: GuideMatcher;
  /** It said something that the grammar does not have. */
  isLost: boolean;
}

/**
 * The side of guidance that knows grammars: compiles them, follows each guided sequence's tokens, and writes on the board which may come next. One
 * command after the other; in a worker thread, but for simulations.
 */
export class GuideFollower {
  readonly #compiler: GuideCompiler;
  readonly #board: MaskBoard;
  readonly #report: (report: GuidanceReport) => void;
  readonly #grammars = new Map<number, CompiledGuide>();
  readonly #places = new Map<number, FollowedPlace>();
  #isWorn = false;

  constructor(compiler: GuideCompiler, board: MaskBoard, report: (report: GuidanceReport) => void) {
    this.#compiler = compiler;
    this.#board = board;
    this.#report = report;
  }

  /** Does what it is told, in order. @throws what broke: nothing of the follower can be trusted then */
  async work(commands: readonly GuidanceCommand[]): Promise<void> {
    const board = this.#board;
    for (const command of commands) {
      board.begin('place' in command ? command.place : undefined);
      await this.#obey(command);
      board.end();
      if (board.takeAwaited()) this.#report({ kind: 'answered' });
    }
  }

  async #obey(command: GuidanceCommand): Promise<void> {
    switch (command.kind) {
      case 'compile':
        return this.#compile(command.grammar, command.guide);
      case 'drop':
        this.#grammars.get(command.grammar)?.close();
        this.#grammars.delete(command.grammar);
        return;
      case 'open':
        return this.#open(command);
      case 'accept': {
        const { place, tokens, ticket } = command;
        const followed = this.#placeOf(place);
        for (const token of tokens) advance(followed, token);
        return this.#answer(place, 0, ticket, followed);
      }
      case 'foresee':
        return this.#foresee(command.place, command.tokens, command.ticket);
      case 'close':
        this.#places.get(command.place)?.matcher.close();
        this.#places.delete(command.place);
        return;
    }
  }

  async #compile(grammar: number, guide: Guide): Promise<void> {
    const startMs = performance.now();
    const done = (problem?: string): void =>
      this.#report({
        kind: 'compiled',
        grammar,
        ...(problem !== undefined && { problem }),
        compileMs: performance.now() - startMs,
      });
    try {
      this.#grammars.set(grammar, await this.#compiler.compile(guide));
      done();
    } catch (thrown) {
      done(messageOf(thrown));
    }
    if (this.#isWorn || !this.#compiler.isWorn) return;
    this.#isWorn = true;
    this.#report({ kind: 'worn' });
  }

  async #open(command: Extract<GuidanceCommand, { kind: 'open' }>): Promise<void> {
    const { place, grammar, tokens, stopTokenIds, ticket } = command;
    const compiled = definite(this.#grammars.get(grammar), 'an open sequence has a grammar');
    const followed: FollowedPlace = { matcher: await compiled.open(stopTokenIds), isLost: false };
    this.#places.set(place, followed);
    for (const token of tokens) advance(followed, token);
    return this.#answer(place, 0, ticket, followed);
  }

  /** Goes the way of some drafts, writes down what may follow each, and comes back. */
  async #foresee(place: number, tokens: readonly number[], ticket: number): Promise<void> {
    const followed = this.#placeOf(place);
    const { matcher, isLost } = followed;
    let taken = 0;
    for (let index = 0; index < tokens.length; index++) {
      // What no text has is followed by nothing; nobody will look there.
      if (isLost || taken < index || !matcher.accept(tokens[index] as number)) {
        this.#board.write(place, index + 1, guideState.stuck);
      } else {
        taken++;
        await this.#write(place, index + 1, followed);
      }
    }
    matcher.rollBack(taken);
    this.#board.foretell(place, ticket);
  }

  async #answer(place: number, entry: number, ticket: number, followed: FollowedPlace): Promise<void> {
    await this.#write(place, entry, followed);
    this.#board.answer(place, ticket);
  }

  async #write(place: number, entry: number, { matcher, isLost }: FollowedPlace): Promise<void> {
    if (isLost) this.#board.write(place, entry, guideState.stuck);
    else if (matcher.isOver) this.#board.write(place, entry, guideState.done);
    else {
      const mask = await matcher.mask();
      const state = mask.every((word) => word === 0) ? guideState.stuck : guideState.mask;
      this.#board.write(place, entry, state, mask);
    }
  }

  #placeOf(place: number): FollowedPlace {
    return definite(this.#places.get(place), 'a token for an open place');
  }
}

function advance(followed: FollowedPlace, token: number): void {
  if (!followed.isLost && !followed.matcher.accept(token)) followed.isLost = true;
}
