import { GrammarText, grammarInvalid } from './grammar-text.ts';
import { patternOf, prefixTree } from './prefix-tree.ts';

/** Texts that one choice may be among. */
export const choicesMax = 10_000;

/** A grammar of some texts. @throws RuntimeError GRAMMAR_INVALID */
export function choiceGrammar(choices: readonly string[]): string {
  if (choices.length === 0) throw grammarInvalid('a choice needs texts to choose among');
  if (choices.length > choicesMax) {
    throw grammarInvalid(`a choice among ${choices.length} texts; at most ${choicesMax} are taken`);
  }
  const grammar = new GrammarText();
  const texts = choices.map((choice) => patternOf(choice.replace(/\p{Surrogate}/gu, '\ufffd')));
  return grammar.text(prefixTree(texts, grammar));
}
