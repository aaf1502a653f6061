import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SeededRandom } from '../../base/random.ts';
import { type AnswerPart, addPart, type PartParser, type WholeParts, wholeParts } from '../answer-parts.ts';
import { pythonCallLengthMax } from './pythonic.ts';
import { toolFormatOf, toolFormats } from './registry.ts';

/** What the offered tools take. */
const tools = new Map<string, unknown>([
  ['get_weather', { type: 'object', properties: { city: { type: 'string' } } }],
  [
    'add',
    {
      type: 'object',
      properties: {
        a: { type: 'integer' },
        b: { anyOf: [{ type: 'array' }, { type: 'null' }] },
        note: { type: ['string', 'null'] },
        exact: { type: 'boolean' },
      },
    },
  ],
]);
const weather = { name: 'get_weather', arguments: { city: 'Paris' } };
const sum = { name: 'add', arguments: { a: 1, b: [2, { c: 'x}"]' }] } };
const json = (call: { name: string; arguments: object }) => JSON.stringify(call);

interface Case {
  what: string;
  answer: string;
  text: string;
  calls: { name: string; arguments: unknown }[];
}

const deepSeekV3 = (call: typeof weather) =>
  `<｜tool▁call▁begin｜>function<｜tool▁sep｜>${call.name}\n\`\`\`json\n${JSON.stringify(call.arguments)}\n\`\`\`<｜tool▁call▁end｜>`;
const deepSeekV31 = (call: typeof weather) =>
  `<｜tool▁call▁begin｜>${call.name}<｜tool▁sep｜>${JSON.stringify(call.arguments)}<｜tool▁call▁end｜>`;

const coder = (name: string, parameters: Record<string, string>) =>
  `<function=${name}>\n${Object.entries(parameters)
    .map(([key, value]) => `<parameter=${key}>\n${value}\n</parameter>\n`)
    .join('')}</function>`;

const cases: Record<string, Case[]> = {
  qwen3_coder: [
    { what: 'text alone', answer: 'a < b <function', text: 'a < b <function', calls: [] },
    {
      what: 'two calls behind text, values by their schema',
      answer: `Sure.\n<tool_call>\n${coder('get_weather', { city: '12' })}\n</tool_call>\n<tool_call>\n${coder(
        'add',
        {
          a: '1',
          b: '[2, {"c": "x}\\"]"}]',
          exact: 'True',
          note: 'null',
          more: '5',
        },
      )}\n</tool_call>`,
      text: 'Sure.\n\n',
      calls: [
        { name: 'get_weather', arguments: { city: '12' } },
        { name: 'add', arguments: { ...sum.arguments, exact: true, note: null, more: '5' } },
      ],
    },
    {
      what: 'what is of none of the types is a text; lines within a value stay',
      answer: `<tool_call>\n${coder('add', { a: 'one', note: '\nx <y>\n</z>\n' })}\n</tool_call>`,
      text: '',
      calls: [{ name: 'add', arguments: { a: 'one', note: '\nx <y>\n</z>\n' } }],
    },
    {
      what: 'no outer marker, no end of a parameter',
      answer: '<function=add>\n<parameter=a>\n1\n<parameter=note>\nx\n</function>',
      text: '',
      calls: [{ name: 'add', arguments: { a: 1, note: 'x' } }],
    },
    {
      what: 'no parameters, no end of the function',
      answer: '<tool_call>\n<function=add>\n</tool_call> done',
      text: ' done',
      calls: [{ name: 'add', arguments: {} }],
    },
    {
      what: 'something else between the markers',
      answer: '<tool_call>{"name": "add"}</tool_call>',
      text: '<tool_call>{"name": "add"}</tool_call>',
      calls: [],
    },
  ],
  hermes: [
    { what: 'text alone', answer: 'a < b <tool', text: 'a < b <tool', calls: [] },
    {
      what: 'two calls behind text',
      answer: `Sure.<tool_call>\n${json(weather)}\n</tool_call>\n<tool_call>${json(sum)}</tool_call>`,
      text: 'Sure.\n',
      calls: [weather, sum],
    },
    {
      what: 'arguments before the name, further keys',
      answer: '<tool_call>{"id": 1, "arguments": {"city": "Paris"}, "name": "get_weather"}</tool_call>',
      text: '',
      calls: [weather],
    },
    {
      what: 'arguments as a string of JSON',
      answer: '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>',
      text: '',
      calls: [weather],
    },
    { what: 'no end', answer: `<tool_call>${json(sum)}`, text: '', calls: [sum] },
    {
      what: 'no end between two',
      answer: `<tool_call>${json(sum)}\n<tool_call>${json(weather)}`,
      text: '',
      calls: [sum, weather],
    },
    {
      what: 'no arguments',
      answer: '<tool_call>{"name": "add"}</tool_call>',
      text: '',
      calls: [{ name: 'add', arguments: {} }],
    },
    {
      what: 'a tool that does not exist',
      answer: '<tool_call>{"name": "rm", "arguments": {}}</tool_call>',
      text: '',
      calls: [{ name: 'rm', arguments: {} }],
    },
    {
      what: 'no call after all',
      answer: '<tool_call>hello</tool_call>',
      text: '<tool_call>hello</tool_call>',
      calls: [],
    },
    { what: 'cut off in front of the name', answer: '<tool_call>{"na', text: '<tool_call>{"na', calls: [] },
  ],
  llama3_json: [
    {
      what: 'one call',
      answer: '{"name": "get_weather", "parameters": {"city": "Paris"}}',
      text: '',
      calls: [weather],
    },
    {
      what: 'several, behind the tag',
      answer: `<|python_tag|>${json(sum)}; ${json(weather)}`,
      text: '',
      calls: [sum, weather],
    },
    {
      what: 'JSON that is no call',
      answer: '{"name": "Bob", "age": 3}',
      text: '{"name": "Bob", "age": 3}',
      calls: [],
    },
    { what: 'text', answer: 'The {"name": "add"}', text: 'The {"name": "add"}', calls: [] },
    { what: 'the tag behind text', answer: `So:<|python_tag|>${json(sum)}`, text: 'So:', calls: [sum] },
  ],
  pythonic: [
    {
      what: 'two calls',
      answer: `[get_weather(city='Paris'), add(a=1, b=[2, {"c": "x}\\"]"}])]`,
      text: '',
      calls: [weather, sum],
    },
    {
      what: 'literals, tags',
      answer: '<|python_start|>[add(a=-1.5e2, b=None, c=True, d=(1,), e="\\u00e9\\n",)]<|python_end|>',
      text: '',
      calls: [{ name: 'add', arguments: { a: -150, b: null, c: true, d: [1], e: 'é\n' } }],
    },
    { what: 'no arguments', answer: '[add()]', text: '', calls: [{ name: 'add', arguments: {} }] },
    { what: 'a list', answer: '[1, 2, 3]', text: '[1, 2, 3]', calls: [] },
    { what: 'an unknown tool', answer: '[rm(path="/")]', text: '[rm(path="/")]', calls: [] },
    { what: 'code', answer: '[add(a=open("x"))]', text: '[add(a=open("x"))]', calls: [] },
    { what: 'cut off', answer: '[add(a=1, b="', text: '[add(a=1, b="', calls: [] },
    { what: 'text', answer: 'no [add()]', text: 'no [add()]', calls: [] },
  ],
  mistral: [
    {
      what: 'a list of objects',
      answer: `[TOOL_CALLS] [${json(weather)}, ${json(sum)}]`,
      text: '',
      calls: [weather, sum],
    },
    {
      what: 'names and arguments',
      answer: `Wait.[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]add[CALL_ID]123456789[ARGS]${JSON.stringify(sum.arguments)}`,
      text: 'Wait.',
      calls: [weather, sum],
    },
    { what: 'text', answer: 'a [TOOL', text: 'a [TOOL', calls: [] },
  ],
  deepseek_v3: [
    {
      what: 'V3',
      answer: `Well.<｜tool▁calls▁begin｜>${deepSeekV3(weather)}\n${deepSeekV3(sum as never)}<｜tool▁calls▁end｜>`,
      text: 'Well.',
      calls: [weather, sum],
    },
    {
      what: 'V3.1',
      answer: `<｜tool▁calls▁begin｜>${deepSeekV31(weather)}${deepSeekV31(sum as never)}<｜tool▁calls▁end｜>`,
      text: '',
      calls: [weather, sum],
    },
    { what: 'text', answer: 'a <｜tool', text: 'a <｜tool', calls: [] },
  ],
};

function inPieces(parser: PartParser, pieces: readonly string[]): { whole: WholeParts; parts: AnswerPart[] } {
  const whole: WholeParts = { text: '', reasoning: '', calls: [] };
  const parts = [...pieces.flatMap((piece) => parser.push(piece)), ...parser.flush()];
  for (const part of parts) addPart(whole, part);
  return { whole, parts };
}

for (const [name, list] of Object.entries(cases)) {
  describe(`tool calls as ${name}`, async () => {
    const { format } = await toolFormats.load(name);
    for (const { what, answer, text, calls } of list) {
      test(what, () => {
        const check = ({ text: found, calls: made }: WholeParts) => {
          assert.equal(found, text);
          assert.deepEqual(
            made.map((call) => ({ name: call.name, arguments: JSON.parse(call.arguments) })),
            calls,
          );
        };
        check(wholeParts(format.createParser(tools), answer));
        check(inPieces(format.createParser(tools), [...answer]).whole);
        for (let cut = 1; cut < answer.length; cut++) {
          check(inPieces(format.createParser(tools), [answer.slice(0, cut), answer.slice(cut)]).whole);
        }
      });
    }
  });
}

test('arguments go out as they arrive', async () => {
  const { format } = await toolFormats.load('hermes');
  const { parts } = inPieces(format.createParser(tools), [...`<tool_call>${json(weather)}</tool_call>`]);
  const pieces = parts.filter((part) => part.kind === 'arguments');
  assert.equal(pieces.length, JSON.stringify(weather.arguments).length);
});

test('whatever arrives, no parser throws, and text without markers comes out whole', async () => {
  const source = new SeededRandom(7);
  const random = () => source.next();
  const words = [
    '<tool_call>',
    '</tool_call>',
    '{',
    '}',
    '"name"',
    ':',
    '"add"',
    ',',
    '"arguments"',
    '[',
    ']',
    ' ',
    'x',
    '\\',
    '"',
    '(',
    ')',
    'add',
    '=',
    '<function=',
    '<parameter=',
    '</parameter>',
    '</function>',
    '>',
    '[TOOL_CALLS]',
    '[ARGS]',
    '<|python_tag|>',
    '<｜tool▁calls▁begin｜>',
    '<｜tool▁call▁begin｜>',
    '<｜tool▁sep｜>',
    '<｜tool▁call▁end｜>',
    '1',
    "'",
    '\n',
  ];
  for (const name of toolFormats.names) {
    const { format } = await toolFormats.load(name);
    for (let round = 0; round < 500; round++) {
      const length = Math.floor(random() * 30);
      const pieces = Array.from({ length }, () => words[Math.floor(random() * words.length)] as string);
      inPieces(format.createParser(tools), pieces);
    }
    assert.equal(wholeParts(format.createParser(tools), 'plain text').text, 'plain text');
  }
});

test('a Python call over its limit is text', async () => {
  const { format } = await toolFormats.load('pythonic');
  const answer = `[add(a="${'x'.repeat(pythonCallLengthMax)}")]`;
  assert.equal(wholeParts(format.createParser(tools), answer).text, answer);
});

test('a template tells its format', () => {
  assert.equal(toolFormatOf("{{ '<tool_call>' }}"), 'hermes');
  assert.equal(toolFormatOf("{{ '<tool_call><function=' }}"), 'qwen3_coder');
  assert.equal(toolFormatOf('[TOOL_CALLS]'), 'mistral');
  assert.equal(
    toolFormatOf('{"name": function name, "parameters": dictionary of argument name and its value}'),
    'llama3_json',
  );
  assert.equal(toolFormatOf('[func_name1(params_name1=params_value1)]'), 'pythonic');
  assert.equal(toolFormatOf('<｜tool▁calls▁begin｜>'), 'deepseek_v3');
  assert.equal(toolFormatOf('{{ messages }}'), undefined);
  assert.equal(toolFormatOf(undefined), undefined);
});
