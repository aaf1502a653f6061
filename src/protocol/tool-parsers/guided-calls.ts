import { GrammarText, literal, oneOf } from '../../runtime/guidance/grammar/grammar-text.ts';
import { type ArgumentsWriting, schemaBody } from '../../runtime/guidance/grammar/json-schema.ts';
import { asSchema } from '../../runtime/guidance/grammar/schema.ts';
import { grammarFormat, type TagFormat } from '../../runtime/guidance/grammar/structural-tag.ts';

/** Of a tool that says nothing of its arguments. */
const anyArguments = { type: 'object' } as const;

/** A tool whose call may be forced. */
export interface CallableTool {
  name: string;
  /** A schema of its arguments, an object's; what a grammar cannot say of it is refused where it is strict. */
  parameters: unknown;
  isStrict: boolean;
}

/** Calls that an answer must be made of. */
export interface CallWish {
  tools: readonly CallableTool[];
  /** Whether several calls may follow each other. */
  isParallel: boolean;
  /** Whether the vocabulary has a token of that very text: formats have dialects. */
  hasToken(text: string): boolean;
}

/** How a format writes calls, for an answer that is guided. */
export interface CallSyntax {
  /** In front of the first call and behind the last one. */
  before?: string;
  after?: string;
  between: string;
  /** A call's texts in front of its arguments and behind them. */
  begin(name: string): string;
  end: string;
  /** How arguments are written. Default: as a JSON object. */
  writesArguments?: ArgumentsWriting;
  /** What begins a call in a text that may also have none; absent: nothing tells it from other text. */
  trigger?: string;
  /** Special tokens among all of these. */
  specialTokens?: readonly string[];
}

/** One call or more, and nothing else. @throws RuntimeError GRAMMAR_INVALID for a schema that no grammar can hold */
export function callsFormat(syntax: CallSyntax, { tools, isParallel }: CallWish): TagFormat {
  const grammar = new GrammarText();
  const begins = tools.map(({ name }) => syntax.begin(name));
  const shared = sharedStart(begins);
  const calls = tools.map((tool, index) => {
    const own = (begins[index] as string).slice(shared.length);
    return grammar.rule(`${literal(own)} ${argumentsBody(syntax, tool, grammar)}`);
  });
  const call = grammar.rule(`${literal(shared)} ${oneOf(calls)} ${literal(syntax.end)}`);
  const more = isParallel ? `(${literal(syntax.between)} ${call})*` : '';
  const whole = [literal(syntax.before ?? ''), call, more, literal(syntax.after ?? '')];
  return grammarFormat(grammar.text(whole.filter((part) => part !== '' && part !== '""').join(' ')));
}

function sharedStart(texts: readonly string[]): string {
  const [first = ''] = texts;
  let length = first.length;
  for (const text of texts) while (!text.startsWith(first.slice(0, length))) length--;
  return first.slice(0, length);
}

/** Any text in which calls may stand; undefined where nothing marks their beginning. */
export function textWithCallsFormat(syntax: CallSyntax, { tools }: CallWish): TagFormat | undefined {
  if (syntax.trigger === undefined) return undefined;
  return {
    type: 'triggered_tags',
    triggers: [syntax.trigger],
    tags: tools.map((tool) => callTag(syntax, tool)),
  };
}

function callTag(syntax: CallSyntax, tool: CallableTool): TagFormat {
  const grammar = new GrammarText();
  const content = grammarFormat(grammar.text(argumentsBody(syntax, tool, grammar)));
  return { type: 'tag', begin: syntax.begin(tool.name), content, end: syntax.end };
}

function argumentsBody(
  { writesArguments: writes }: CallSyntax,
  { name, parameters, isStrict }: CallableTool,
  grammar: GrammarText,
): string {
  const schema = asSchema(parameters ?? anyArguments, `tools.${name}.parameters`);
  return schemaBody(schema, grammar, { isLenient: !isStrict, writes });
}
