import type { SeededRandom } from '../../src/base/random.ts';
import type { Guide } from '../../src/runtime/guidance/guide.ts';
import { GuideFollower } from '../../src/runtime/guidance/guide-follower.ts';
import type { CompiledGuide, GuideCompiler, GuideMatcher } from '../../src/runtime/guidance/guide-matcher.ts';
import { MaskBoard } from '../../src/runtime/guidance/mask-board.ts';
import type { GuidanceVocabulary } from '../../src/runtime/guidance/vocabulary.ts';
import type {
  GuidanceCommand,
  GuidancePort,
  GuidanceReport,
  GuidanceWorkerData,
} from '../../src/runtime/guidance/worker-messages.ts';
import type { GenerationRequest } from '../../src/runtime/requests/request.ts';

/** What the simulator's grammars say: of each three tokens one may come, by what was said last; after so many tokens the text is over. */
interface SimulatedGrammar {
  salt: number;
  length: number;
}

/** The simulator's vocabulary says nothing: its grammars are about ids. */
export const simulatedVocabulary: GuidanceVocabulary = {
  tokens: [],
  special: new Map(),
  stopTokenIds: [],
};

/** Gives some requests a guide. */
export function addGuides(random: SeededRandom, requests: readonly GenerationRequest[]): void {
  const isUsed = random.integer(3) > 0;
  for (const request of requests) {
    const grammar: SimulatedGrammar = { salt: random.integer(5), length: 3 + random.integer(30) };
    if (!isUsed || request.beams || request.maxTokens === 0 || random.integer(3) > 0) continue;
    request.guide = simulatedGuide(grammar);
  }
}

/** A guide that {@link SimulatedFollower} knows. */
export function simulatedGuide(grammar: SimulatedGrammar): Guide {
  return { kind: 'grammar', source: JSON.stringify(grammar) };
}

class SimulatedMatcher implements GuideMatcher {
  readonly #grammar: SimulatedGrammar;
  readonly #stops: readonly number[];
  readonly #words: number;
  #said: number[] = [];

  constructor(grammar: SimulatedGrammar, stops: readonly number[], vocabularySize: number) {
    this.#grammar = grammar;
    this.#stops = stops;
    this.#words = Math.ceil(vocabularySize / 32);
  }

  accept(token: number): boolean {
    if (this.isOver || !this.#isAllowed(token)) return false;
    this.#said.push(token);
    return true;
  }

  rollBack(count: number): void {
    if (count > this.#said.length) throw new Error('more is taken back than was said');
    this.#said.length -= count;
  }

  get isOver(): boolean {
    return this.#said.length >= this.#grammar.length;
  }

  async mask(): Promise<Int32Array> {
    const mask = new Int32Array(this.#words);
    for (let token = 0; token < this.#words * 32; token++) {
      if (this.#isAllowed(token)) mask[token >> 5]! |= 1 << (token & 31);
    }
    return mask;
  }

  close(): void {}

  #isAllowed(token: number): boolean {
    if (this.#stops.includes(token)) return this.#said.length > 2;
    return (token + this.#grammar.salt + (this.#said.at(-1) ?? 0)) % 3 === 0;
  }
}

/** How a simulated follower misbehaves. */
export interface Mishaps {
  /** Turns of the event loop that a message lies around. */
  turnsLate(): number;
  /** Whether it dies over a sequence's message. */
  dies(): boolean;
  /** How often it did. */
  deaths: number;
}

/** A follower as it should be. */
export const noMishaps: Mishaps = { turnsLate: () => 0, dies: () => false, deaths: 0 };

/** One that is late now and then, and dies in some runs. */
export function randomMishaps(random: SeededRandom): Mishaps {
  const isUnlucky = random.integer(3) === 0;
  return {
    deaths: 0,
    turnsLate: () => (random.integer(3) === 0 ? random.integer(4) : 0),
    dies() {
      const isDead = isUnlucky && random.integer(40) === 0;
      if (isDead) this.deaths++;
      return isDead;
    },
  };
}

/** The other end of guidance without a thread, in its own time. */
export class SimulatedFollower implements GuidancePort {
  readonly #board: MaskBoard;
  readonly #follower: GuideFollower;
  readonly #mishaps: Mishaps;
  readonly #listeners = new Map<string, (given: never) => void>();
  #work: Promise<void> = Promise.resolve();
  #isOver = false;

  constructor(data: GuidanceWorkerData, mishaps: Mishaps) {
    this.#board = new MaskBoard(data.board);
    this.#mishaps = mishaps;
    const compiler: GuideCompiler = {
      isWorn: false,
      compile: async ({ source }): Promise<CompiledGuide> => {
        const grammar = JSON.parse(source) as SimulatedGrammar;
        const { vocabularySize } = data.board;
        return {
          open: async (stops) => new SimulatedMatcher(grammar, stops, vocabularySize),
          close: () => {},
        };
      },
    };
    this.#follower = new GuideFollower(compiler, this.#board, (report) => this.#say('message', report));
    queueMicrotask(() => this.#say('message', { kind: 'ready' } satisfies GuidanceReport));
  }

  postMessage(commands: readonly GuidanceCommand[]): void {
    const turns = this.#mishaps.turnsLate();
    // Messages are copies, as a thread's are.
    const copy = structuredClone(commands) as GuidanceCommand[];
    this.#work = this.#work.then(async () => {
      for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
      if (this.#isOver) return;
      const last = copy.at(-1);
      if (last?.kind === 'accept' && this.#mishaps.dies()) {
        this.#board.begin(last.place);
        this.#say('exit', undefined);
      } else await this.#follower.work(copy);
    });
    this.#work.catch((error: unknown) => this.#say('error', error));
  }

  on(event: string, hear: (given: never) => void): void {
    this.#listeners.set(event, hear);
  }

  ref(): void {}

  unref(): void {}

  async terminate(): Promise<void> {
    this.#isOver = true;
  }

  #say(event: string, given: unknown): void {
    if (!this.#isOver) this.#listeners.get(event)?.(given as never);
  }
}
