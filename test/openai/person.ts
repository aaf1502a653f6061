import assert from 'node:assert/strict';

/** A schema whose instances a model that says tokens by chance ends soon. */
export const person = {
  type: 'object',
  properties: {
    name: { type: 'string', pattern: '^[a-z ]{1,8}$' },
    age: { type: 'integer', minimum: 0, maximum: 120 },
  },
  required: ['name', 'age'],
  additionalProperties: false,
};

/** Whether a value is an instance of {@link person}, without a validator. */
export function assertPerson(value: unknown): void {
  const { name, age, ...others } = value as { name: string; age: number };
  assert.ok(
    /^[a-z ]{1,8}$/.test(name) && Number.isInteger(age) && age >= 0 && age <= 120,
    JSON.stringify(value),
  );
  assert.deepEqual(others, {});
}
