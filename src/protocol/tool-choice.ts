import { ProtocolError } from './errors.ts';
import type { CallChoice } from './guided-answer.ts';

/** A function that may be called, as OpenAI's APIs describe it. */
export interface OfferedFunction {
  name: string;
  parameters?: unknown;
  strict?: unknown;
}

/** What a request says of tools, in OpenAI's words. */
export interface ToolWish {
  functions: readonly OfferedFunction[];
  choice: string | { readonly type: string; readonly [field: string]: unknown } | null | undefined;
  isParallel: boolean;
}

/**
 * Which tools may be called, and whether one must be.
 * @throws ProtocolError PARAMETER_INVALID for a forced tool that is not offered
 */
export function callChoice({ functions, choice, isParallel }: ToolWish): CallChoice {
  const tools = choice === 'none' ? [] : functions;
  const { isRequired, names } = wanted(choice);
  if (isRequired && tools.length === 0) throw invalid('tool_choice asks for a call, but there are no tools');
  const offered = tools.map(({ name }) => name);
  const missing = names?.find((name) => !offered.includes(name));
  if (missing !== undefined)
    throw invalid(`tool_choice names '${missing.slice(0, 80)}', which is not among the tools`);
  return {
    isRequired,
    // A named tool is called once.
    isParallel: isParallel && !(isRequired && names?.length === 1),
    tools: tools
      .filter(({ name }) => names === undefined || names.includes(name))
      .map(({ name, parameters, strict }) => ({ name, parameters, isStrict: strict === true })),
  };
}

function wanted(choice: ToolWish['choice']): { isRequired: boolean; names?: readonly string[] } {
  if (choice === 'required') return { isRequired: true };
  if (!choice || typeof choice === 'string') return { isRequired: false };
  if (choice.type === 'function') return { isRequired: true, names: [nameOf(choice)] };
  if (choice.type !== 'allowed_tools') {
    const message = `tool_choice of type '${choice.type.slice(0, 40)}' is not supported; none, auto, required, functions and allowed_tools are`;
    throw new ProtocolError('PARAMETER_UNSUPPORTED', message, { parameter: 'tool_choice' });
  }
  const allowed = (choice.allowed_tools ?? choice) as { mode?: unknown; tools?: unknown };
  if (!Array.isArray(allowed.tools)) throw invalid('allowed_tools must list tools');
  return { isRequired: allowed.mode === 'required', names: allowed.tools.map(nameOf) };
}

/** `{ function: { name } }` of chats, `{ name }` of responses. */
function nameOf(tool: unknown): string {
  const { name, function: called } = (tool ?? {}) as { name?: unknown; function?: { name?: unknown } };
  const found = called?.name ?? name;
  if (typeof found === 'string') return found;
  throw invalid('tool_choice must name a function');
}

function invalid(message: string): ProtocolError {
  return new ProtocolError('PARAMETER_INVALID', message, { parameter: 'tool_choice' });
}
