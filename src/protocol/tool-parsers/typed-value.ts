/** Names of types that a schema gives for one parameter, `anyOf` and `oneOf` included; empty: it says none. */
function typesOf(schema: unknown, key: string): ReadonlySet<string> {
  const { properties } = (schema ?? {}) as { properties?: Record<string, unknown> };
  const types = new Set<string>();
  const own = properties && Object.hasOwn(properties, key) ? properties[key] : undefined;
  const { anyOf, oneOf } = (own ?? {}) as { anyOf?: unknown; oneOf?: unknown };
  for (const alternative of [own, anyOf, oneOf].flat()) {
    const { type } = (alternative ?? {}) as { type?: unknown };
    for (const name of [type].flat()) if (typeof name === 'string') types.add(name);
  }
  return types;
}

function typeOfValue(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Models that learnt from Python write its literals.
    return { true: true, false: false, none: null }[text.toLowerCase()];
  }
}

/**
 * A parameter that a model wrote as plain text, as the JSON value that its tool's schema asks for; a text where the schema says nothing, or
 * where what was written is of none of its types.
 * @param schema of the tool's parameters
 */
export function valueOfText(text: string, schema: unknown, key: string): unknown {
  const types = typesOf(schema, key);
  if (types.size === 0) return text;
  const value = parsed(text.trim());
  if (value === undefined) return text;
  const type = typeOfValue(value);
  const isOfType =
    types.has(type) || (type === 'number' && types.has('integer') && Number.isInteger(value as number));
  // What may be a text is one, unless it is clearly something else that it may be.
  return isOfType && type !== 'string' ? value : text;
}
