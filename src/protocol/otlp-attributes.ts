/** OTLP's JSON form of an attribute. */
export interface Attribute {
  key: string;
  value:
    | { stringValue: string }
    | { intValue: string }
    | { doubleValue: number }
    | { boolValue: boolean }
    | { arrayValue: { values: { stringValue: string }[] } };
}

/** What OpenTelemetry's conventions have as floating point, whole numbers too. */
const doubles = /\.(latency\.|request\.(temperature|top_p|top_k|frequency_penalty|presence_penalty)$)/;

/** Those of the values that are given. */
export function attributesOf(given: Readonly<Record<string, unknown>>): Attribute[] {
  return Object.entries(given).flatMap(([key, value]) =>
    value === undefined || value === null ? [] : [{ key, value: otlpValue(key, value) }],
  );
}

function otlpValue(key: string, value: unknown): Attribute['value'] {
  if (typeof value === 'boolean') return { boolValue: value };
  if (typeof value === 'number') {
    return Number.isInteger(value) && !doubles.test(key)
      ? { intValue: String(value) }
      : { doubleValue: value };
  }
  if (Array.isArray(value))
    return { arrayValue: { values: value.map((one) => ({ stringValue: String(one) })) } };
  return { stringValue: String(value) };
}
