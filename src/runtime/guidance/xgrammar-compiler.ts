import type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from '@mlc-ai/web-xgrammar';
import { messageOf } from '../../base/errors.ts';
import type { Guide } from './guide.ts';
import type { CompiledGuide, GuideCompiler, GuideMatcher } from './guide-matcher.ts';
import { boundsOf, StringLengths, TokenLengths } from './string-lengths.ts';
import { type GuidanceVocabulary, textsOf } from './vocabulary.ts';
import { type GrammarLibrary, loadXGrammar } from './xgrammar-library.ts';

/** One vocabulary, with some special tokens as texts. */
interface Texts {
  compiler: GrammarCompiler;
  texts: readonly string[];
  lengths: TokenLengths | undefined;
}

/** Guides as xgrammar compiles and follows them. Changes this thread's console. */
export class XGrammarCompiler implements GuideCompiler {
  readonly #library: GrammarLibrary = loadXGrammar();
  readonly #vocabulary: GuidanceVocabulary;
  readonly #size: number;
  readonly #memoryBytesMax: number;
  /** By the special tokens that may be written. */
  readonly #texts = new Map<string, Texts>();
  #hasFailed = false;

  /** @param size of the model's rows of logits */
  constructor(vocabulary: GuidanceVocabulary, size: number, memoryBytesMax: number) {
    this.#vocabulary = vocabulary;
    this.#size = size;
    this.#memoryBytesMax = memoryBytesMax;
  }

  get isWorn(): boolean {
    return this.#hasFailed || this.#library.memoryBytes() > this.#memoryBytesMax;
  }

  async compile({ kind, source, specialTokens = [] }: Guide): Promise<CompiledGuide> {
    this.#library.takeMessages();
    try {
      const texts = await this.#textsWith(specialTokens);
      const { compiler } = texts;
      const grammar = await (kind === 'grammar'
        ? compiler.compileGrammar(source)
        : compiler.compileStructuralTag(source));
      return { open: (stops) => this.#open(grammar, source, texts, stops), close: () => grammar.dispose() };
    } catch (thrown) {
      this.#hasFailed = true;
      throw new Error(this.#problemOf(thrown), { cause: thrown });
    }
  }

  async #textsWith(specialTokens: readonly string[]): Promise<Texts> {
    const key = JSON.stringify(specialTokens);
    const known = this.#texts.get(key);
    if (known) return known;
    const { TokenizerInfo, GrammarCompiler: Compiler } = this.#library.library;
    const texts = textsOf(this.#vocabulary, specialTokens).slice(0, this.#size);
    const stops = [...this.#vocabulary.stopTokenIds];
    const information = await TokenizerInfo.createTokenizerInfo(
      texts,
      'byte_level',
      false,
      this.#size,
      stops,
    );
    const compiler = await Compiler.createGrammarCompiler(information, false);
    const made = { compiler, texts, lengths: undefined };
    this.#texts.set(key, made);
    return made;
  }

  async #open(
    grammar: CompiledGrammar,
    source: string,
    texts: Texts,
    stopTokenIds: readonly number[],
  ): Promise<GuideMatcher> {
    const stops = this.#textless(stopTokenIds);
    const matcher = await this.#library.library.GrammarMatcher.createGrammarMatcher(
      grammar,
      stops.length > 0 ? stops : undefined,
      stops.length === 0,
    );
    const bounds = boundsOf(source);
    if (bounds.length === 0) return new XGrammarMatcher(matcher, undefined);
    texts.lengths ??= new TokenLengths(texts.texts);
    const takes = (text: string): boolean => {
      const isTaken = matcher._acceptString(text);
      if (isTaken) matcher.rollBack(1);
      return isTaken;
    };
    return new XGrammarMatcher(matcher, new StringLengths(texts.lengths, bounds, takes));
  }

  /** Of the ids that end a request's text, those that stand for none: the others end it when they come, as text. */
  #textless(stopTokenIds: readonly number[]): number[] {
    const { tokens, stopTokenIds: own } = this.#vocabulary;
    return stopTokenIds.filter((id) => (tokens[id] ?? '') === '' || own.includes(id));
  }

  /** The library prints what is wrong with its own file and line in front, then aborts without saying more. */
  #problemOf(thrown: unknown): string {
    const told = this.#library
      .takeMessages()
      .map((line) => /\.cc:\d+: (.*)$/s.exec(line)?.[1])
      .filter((line) => line !== undefined);
    return told.length > 0 ? told.join('; ').slice(0, 500) : messageOf(thrown);
  }
}

class XGrammarMatcher implements GuideMatcher {
  readonly #matcher: GrammarMatcher;
  readonly #strings: StringLengths | undefined;

  constructor(matcher: GrammarMatcher, strings: StringLengths | undefined) {
    this.#matcher = matcher;
    this.#strings = strings;
  }

  accept(token: number): boolean {
    if (!this.#matcher.acceptToken(token)) return false;
    this.#strings?.accept(token);
    return true;
  }

  rollBack(count: number): void {
    if (count === 0) return;
    this.#matcher.rollBack(count);
    this.#strings?.rollBack(count);
  }

  get isOver(): boolean {
    return this.#matcher.isTerminated();
  }

  async mask(): Promise<Int32Array> {
    const mask = await this.#matcher.getNextTokenBitmask();
    this.#strings?.restrict(mask);
    return mask;
  }

  close(): void {
    this.#matcher.dispose();
  }
}
