import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import * as rules from './rules.ts';

const files: rules.SourceFile[] = ['src', 'test', 'bench']
  .flatMap((root) =>
    readdirSync(join(packageRoot, root), { recursive: true }).map(
      (path) => `${root}/${String(path).replaceAll('\\', '/')}`,
    ),
  )
  .filter((path) => path.endsWith('.ts') && !path.includes('node_modules/'))
  .map((path) => ({ path, text: readFileSync(join(packageRoot, path), 'utf8') }));

describe('the tree keeps the house rules', () => {
  for (const [name, rule] of Object.entries(rules.fileRules)) {
    test(name, () => {
      assert.deepEqual(files.flatMap(rule), []);
    });
  }

  test('no circles of imports', () => {
    assert.deepEqual(rules.importCircles(files), []);
  });

  test('no dead files', () => {
    const roots = [/^src\/index\.ts$/, /^src\/cli\/main\.ts$/];
    assert.deepEqual(rules.deadFiles(files, roots), []);
  });
});

describe('each rule catches what it is for', () => {
  const file = (path: string, text: string): rules.SourceFile => ({ path, text });

  test('circles of imports, also of types alone', () => {
    const a = file('src/base/a.ts', "import type { B } from './b.ts';");
    const b = file('src/base/b.ts', "import { c } from './c.ts';");
    const c = file('src/base/c.ts', "import { a } from './a.ts';");
    assert.deepEqual(rules.importCircles([a, b, c]), [
      'src/base/a.ts → src/base/b.ts → src/base/c.ts → src/base/a.ts',
    ]);
    assert.deepEqual(rules.importCircles([a, b]), []);
  });

  test('layers: upwards only', () => {
    const complaints = rules.checkLayers(file('src/graph/x.ts', "import { a } from '../runtime/y.ts';"));
    assert.match(complaints[0] as string, /graph\/ must not import runtime\//);
    assert.deepEqual(rules.checkLayers(file('src/runtime/x.ts', "import { a } from '../graph/y.ts';")), []);
    assert.equal(rules.checkLayers(file('src/load/x.ts', "import { a } from '../runtime/y.ts';")).length, 1);
    assert.equal(rules.checkLayers(file('src/misc/x.ts', '')).length, 1);
  });

  test('protocols do not know each other', () => {
    const complaints = rules.checkLayers(
      file('src/protocol/openai/x.ts', "import { a } from '../triton/y.ts';"),
    );
    assert.match(complaints[0] as string, /one protocol must not import another/);
    assert.deepEqual(
      rules.checkLayers(file('src/protocol/openai/x.ts', "import { a } from '../errors.ts';")),
      [],
    );
  });

  test('lengths of files and functions', () => {
    assert.equal(rules.checkFileLength(file('src/a.ts', '\n'.repeat(501))).length, 1);
    const body = '  a();\n'.repeat(61);
    assert.equal(rules.checkFunctionLength(file('src/a.ts', `function long() {\n${body}}\n`)).length, 1);
    assert.equal(
      rules.checkFunctionLength(file('src/a.ts', `class A {\n  #long(): void {\n${body}  }\n}\n`)).length,
      1,
    );
    assert.equal(rules.checkFunctionLength(file('src/a.ts', 'function short() {\n  a();\n}\n')).length, 0);
  });

  test('exports are documented', () => {
    assert.equal(rules.checkDocumentation(file('src/base/a.ts', 'export function a() {}')).length, 1);
    assert.equal(
      rules.checkDocumentation(file('src/base/a.ts', '/** Does a. */\nexport function a() {}')).length,
      0,
    );
  });

  test('banned words and calls', () => {
    assert.equal(rules.checkBanned(file('src/base/a.ts', `// ${'TO'}${'DO'} later`)).length, 1);
    assert.equal(rules.checkBanned(file('src/base/a.ts', 'console.log(1)')).length, 1);
    assert.equal(rules.checkBanned(file('src/cli/a.ts', 'console.log(1)')).length, 0);
  });

  test('dead files', () => {
    const tree = [
      file('src/base/a.ts', ''),
      file('src/index.ts', "import './base/b.ts';"),
      file('src/base/b.ts', ''),
    ];
    assert.deepEqual(rules.deadFiles(tree, [/^src\/index\.ts$/]), ['src/base/a.ts: nothing imports it']);
  });
});
