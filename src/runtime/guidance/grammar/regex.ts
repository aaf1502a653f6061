import {
  type CodeRange,
  characterClass,
  GrammarText,
  inRanges,
  literal,
  oneOf,
  rangesWithout,
  repeated,
} from './grammar-text.ts';
import { parseRegex, type RegexNode } from './regex-syntax.ts';

/** How a character of the regex is written in the text. */
type CharacterWriter = (ranges: readonly CodeRange[]) => string;

/** Code points that UTF-8 cannot hold. */
const surrogates: readonly CodeRange[] = [[0xd800, 0xdfff]];
/** What a JSON string writes otherwise. */
const jsonSpecial: readonly CodeRange[] = [[0, 0x1f], [0x22, 0x22], [0x5c, 0x5c], ...surrogates];
const jsonEscapes: readonly (readonly [code: number, text: string])[] = [
  [0x22, '\\"'],
  [0x5c, '\\\\'],
  [0x0a, '\\n'],
  [0x0d, '\\r'],
  [0x09, '\\t'],
];

/** Over it a class is one like `.`: what needs an escape is left out, since nobody means it. */
const wideClassSize = 1_000;

/** A grammar of the texts that a regex matches as a whole. @throws RuntimeError GRAMMAR_INVALID */
export function regexGrammar(source: string): string {
  const grammar = new GrammarText();
  return grammar.text(written(parseRegex(source), grammar, plainCharacter));
}

/** A body for what stands between the quotes of a JSON string that matches a regex as a whole. */
export function regexInJsonString(node: RegexNode, grammar: GrammarText): string {
  return written(node, grammar, jsonCharacter);
}

const plainCharacter: CharacterWriter = (ranges) => characterClass(rangesWithout(ranges, surrogates));

const jsonCharacter: CharacterWriter = (ranges) => {
  const plain = rangesWithout(ranges, jsonSpecial);
  const size = ranges.reduce((sum, [from, to]) => sum + to - from + 1, 0);
  const escaped = size > wideClassSize ? [] : jsonEscapes.filter(([code]) => inRanges(ranges, code));
  const bodies = escaped.map(([, text]) => literal(text));
  if (plain.length > 0) bodies.unshift(characterClass(plain));
  return bodies.length === 0 ? '[]' : oneOf(bodies);
};

function written(node: RegexNode, grammar: GrammarText, character: CharacterWriter): string {
  switch (node.kind) {
    case 'class':
      return character(node.ranges);
    case 'sequence': {
      const parts = node.parts.map((part) => written(part, grammar, character));
      return parts.length === 0 ? '""' : grammar.rule(parts.join(' '));
    }
    case 'choice':
      return grammar.rule(node.parts.map((part) => written(part, grammar, character)).join(' | '));
    case 'repeat':
      return grammar.rule(repeated(written(node.part, grammar, character), node.min, node.max));
  }
}
