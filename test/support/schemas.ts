import { SeededRandom } from '../../src/base/random.ts';

type Schema = Record<string, unknown>;

/** Schemas as applications send them: flat and nested records, lists, unions by a tag, recursion, formats, bounds. The same for the same count. */
export function realWorldSchemas(count: number): Schema[] {
  const random = new SeededRandom(11);
  const made = [...handwritten];
  while (made.length < count) made.push(record(random, 0));
  return made.slice(0, count);
}

const handwritten: readonly Schema[] = [
  { type: 'string', minLength: 2, maxLength: 200 },
  {
    type: 'object',
    properties: {
      summary: { type: 'string', maxLength: 40 },
      body: { type: 'string', minLength: 10, maxLength: 64 },
    },
    required: ['summary', 'body'],
    additionalProperties: false,
  },
  { anyOf: [{ type: 'string', maxLength: 100 }, { type: 'string', maxLength: 40 }, { enum: ['none'] }] },
  {
    type: 'object',
    properties: { name: { type: 'string' }, age: { type: 'integer', minimum: 0, maximum: 120 } },
    required: ['name', 'age'],
    additionalProperties: false,
  },
  { type: 'array', items: { type: 'number', minimum: -3.5, maximum: 9 }, maxItems: 4 },
  { type: 'number', exclusiveMinimum: 0, maximum: 1 },
  {
    allOf: [
      { type: 'object', properties: { a: { type: 'string' } }, required: ['a'] },
      { properties: { b: { type: 'integer' } }, required: ['b'] },
    ],
  },
  { type: 'object', properties: { a: { type: 'boolean' } }, required: ['a', 'b'] },
  { type: 'array', uniqueItems: true, items: { enum: [1, 2, 3, 4] }, minItems: 2 },
  { type: 'integer', multipleOf: 5 },
  {
    type: 'object',
    minProperties: 2,
    maxProperties: 3,
    properties: { a: { type: 'string' }, b: { type: 'string' }, c: { type: 'null' } },
  },
  {
    type: 'object',
    minProperties: 1,
    additionalProperties: { type: 'boolean' },
    properties: { ab: { type: 'integer' } },
  },
  {
    type: 'object',
    patternProperties: { '^x[0-9]$': { type: 'integer' } },
    additionalProperties: false,
    maxProperties: 2,
  },
  { oneOf: [{ type: 'integer' }, { type: 'string', format: 'date' }] },
  { type: 'string', pattern: '^[A-Z]{2}-\\d{3,5}(-[^x"]+)?$' },
  { type: 'string', pattern: '^a.*$' },
  {
    $ref: '#/$defs/node',
    $defs: {
      node: {
        type: 'object',
        properties: { v: { type: 'integer' }, next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
        required: ['v', 'next'],
        additionalProperties: false,
      },
    },
  },
  {
    oneOf: ['circle', 'box'].map((kind) => ({
      type: 'object',
      properties: { kind: { const: kind }, size: { type: 'number' } },
      required: ['kind', 'size'],
    })),
  },
  {
    type: 'object',
    properties: { country: { enum: ['US', 'CA'] } },
    required: ['country'],
    if: { properties: { country: { const: 'US' } } },
    // biome-ignore lint/suspicious/noThenProperty: JSON schema's word
    then: { properties: { zip: { type: 'string', pattern: '^\\d{5}$' } }, required: ['zip'] },
    else: { properties: { post: { type: 'string' } }, required: ['post'] },
  },
  {
    type: 'object',
    dependentRequired: { a: ['b'] },
    properties: { a: { type: 'string' }, b: { type: 'string' } },
  },
  { type: 'array', prefixItems: [{ type: 'string' }, { type: 'integer' }], items: false, minItems: 2 },
  {
    anyOf: [{ required: ['a'] }, { required: ['b'] }],
    type: 'object',
    properties: { a: { type: 'string' }, b: { type: 'string' } },
  },
];

const names = [
  'id',
  'title',
  'created_at',
  'email',
  'tags',
  'price',
  'items',
  'status',
  'owner',
  'note',
  'is_active',
  'größe',
];
const formats = ['date', 'date-time', 'email', 'uuid', 'uri', 'ipv4', 'time', 'hostname'];

function pick<T>(random: SeededRandom, list: readonly T[]): T {
  return list[Math.floor(random.next() * list.length)] as T;
}

function record(random: SeededRandom, depth: number): Schema {
  const own = names.filter(() => random.next() < 0.35);
  const properties = Object.fromEntries(own.map((name) => [name, value(random, depth + 1)]));
  const required = own.filter(() => random.next() < 0.6);
  return {
    type: 'object',
    properties,
    required,
    ...(random.next() < 0.7 ? { additionalProperties: false } : {}),
  };
}

function value(random: SeededRandom, depth: number): Schema {
  const low = Math.floor(random.next() * 50) - 20;
  const makers: (() => Schema)[] = [
    () => ({ type: 'string', minLength: 1, maxLength: 1 + Math.floor(random.next() * 20) }),
    () => ({ type: 'string', format: pick(random, formats) }),
    () => ({
      type: 'string',
      enum: ['open', 'closed', 'in progress', 'ü "quoted"'].slice(0, 1 + Math.floor(random.next() * 4)),
    }),
    () => ({ type: 'integer', minimum: low, maximum: low + Math.floor(random.next() * 5000) }),
    () => ({ type: 'number', minimum: low + 0.25, exclusiveMaximum: low + 1 + random.next() * 10 }),
    () => ({ type: ['boolean', 'null'] }),
    () => ({ anyOf: [{ type: 'null' }, { type: 'integer' }] }),
    () => ({
      type: 'string',
      pattern: pick(random, ['^[A-Z]{3}\\d{2,4}$', '^#[0-9a-f]{6}$', '^(\\w+-)*\\w+$']),
    }),
  ];
  if (depth < 4) {
    makers.push(
      () => record(random, depth),
      () => ({
        type: 'array',
        items: value(random, depth + 1),
        minItems: Math.floor(random.next() * 2),
        maxItems: 3,
      }),
    );
  }
  return pick(random, makers)();
}
