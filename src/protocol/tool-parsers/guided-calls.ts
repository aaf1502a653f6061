import { jsonSchemaGrammar } from '../../runtime/guidance/grammar/json-schema.ts';
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
  writesArguments?: 'keywords';
  /** What begins a call in a text that may also have none; absent: nothing tells it from other text. */
  trigger?: string;
  /** Special tokens among all of these. */
  specialTokens?: readonly string[];
}

/** One call or more, and nothing else. */
export function callsFormat(syntax: CallSyntax, { tools, isParallel }: CallWish): TagFormat {
  const tags = tools.map((tool) => callTag(syntax, tool));
  const calls: TagFormat = {
    type: 'tags_with_separator',
    tags,
    separator: syntax.between,
    at_least_one: true,
    stop_after_first: !isParallel,
  };
  const around = [text(syntax.before), calls, text(syntax.after)].filter((part) => part !== undefined);
  return around.length === 1 ? calls : { type: 'sequence', elements: around };
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

function callTag(syntax: CallSyntax, { name, parameters, isStrict }: CallableTool): TagFormat {
  const schema = asSchema(parameters ?? anyArguments, `tools.${name}.parameters`);
  const grammar = jsonSchemaGrammar(schema, { isLenient: !isStrict, writes: syntax.writesArguments });
  return { type: 'tag', begin: syntax.begin(name), content: grammarFormat(grammar), end: syntax.end };
}

function text(value: string | undefined): TagFormat | undefined {
  return value === undefined ? undefined : { type: 'const_string', value };
}
