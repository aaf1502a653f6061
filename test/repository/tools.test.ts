import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { checkRepository } from '../../src/repository/check.ts';
import { createRepository } from '../../src/repository/create.ts';
import { fillTemplate, parseSubstitutions } from '../../src/repository/template.ts';
import { runCli } from '../support/run-cli.ts';

const dollar = (name: string) => `$\{${name}}`;

describe('templates', () => {
  test('are filled as fill_template fills them', () => {
    const values = parseSubstitutions('a:1,b:x\\,y,path:c\\:/d');
    assert.deepEqual(
      [...values],
      [
        ['a', '1'],
        ['b', 'x,y'],
        ['path', 'c:/d'],
      ],
    );
    const text = `${dollar('a')} $b ${dollar('path')} ${dollar('left')} $$ $1 ${dollar('max_queue_size')} ${dollar('left')}`;
    assert.deepEqual(fillTemplate(text, values, 'f'), {
      text: `1 x,y c:/d ${dollar('left')} $ $1 0 ${dollar('left')}`,
      unfilled: ['left'],
    });
    assert.throws(() => fillTemplate('', values, 'f'), /key 'a' does not exist in the file f/);
    assert.throws(() => parseSubstitutions('a'), /no colon/);
    assert.throws(() => parseSubstitutions('a:b:c'), /more than one colon/);
  });

  test('nereid repo fill', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'nereid-fill-'));
    const file = join(folder, 'config.pbtxt');
    writeFileSync(file, `# kept\nmax_batch_size: ${dollar('n')} # ${dollar('other')}\n`);
    const printed = await runCli(['repo', 'fill', file, 'n:4']);
    assert.equal(printed.stdout, `# kept\nmax_batch_size: 4 # ${dollar('other')}\n`);
    assert.match(printed.stderr, /not filled: \$\{other\}/);
    await runCli(['repo', 'fill', '-i', file, 'n:4']);
    assert.match(readFileSync(file, 'utf8'), /max_batch_size: 4/);
    const wrong = await runCli(['repo', 'fill', file, 'missing:4']);
    assert.match(wrong.stderr, /key 'missing' does not exist in the file/);
    assert.equal(wrong.code, 1);
    rmSync(folder, { recursive: true });
  });
});

describe('repositories', () => {
  test('that are created pass the check; broken ones are explained', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'nereid-create-'));
    const target = join(folder, 'models');
    const create = { target, group: 'inflight_batcher_llm', engine: folder, tokenizer: folder } as const;
    const models = await createRepository(create);
    assert.deepEqual(models, [
      'ensemble',
      'postprocessing',
      'preprocessing',
      'tensorrt_llm',
      'tensorrt_llm_bls',
    ]);
    assert.deepEqual(
      (await checkRepository(target)).flatMap(({ problems }) => problems),
      [],
    );
    await assert.rejects(createRepository(create), /is not empty/);
    const odd = { ...create, target: join(folder, 'odd'), values: { no_such_key: '1' } };
    await assert.rejects(
      createRepository(odd),
      /no model of inflight_batcher_llm has a placeholder \$\{no_such_key\}/,
    );
    writeFileSync(join(target, 'preprocessing/config.pbtxt'), 'backend: "preprocessing" max_batch_size: 1');
    writeFileSync(join(target, 'postprocessing/config.pbtxt'), 'backend: "postprocessing" oops');
    rmSync(join(target, 'tensorrt_llm_bls/1'), { recursive: true });
    const problems = new Map(
      (await checkRepository(target)).map(({ name, problems }) => [name, problems.join()]),
    );
    assert.match(problems.get('ensemble') ?? '', /non-existing input|no model that could be loaded/);
    assert.match(problems.get('postprocessing') ?? '', /1:31: Expected/);
    assert.match(problems.get('tensorrt_llm_bls') ?? '', /^at least one version must be available/);
    const said = await runCli(['repo', 'check', target]);
    assert.match(said.stdout, /tensorrt_llm: good/);
    assert.match(said.stderr, /3 of 5 models have problems/);
    rmSync(folder, { recursive: true });
  });

  test('a repository that is not there is no empty one', async () => {
    const missing = join(tmpdir(), 'nereid-no-such-repository');
    const { code, stderr } = await runCli(['serve', '--model-repository', missing, '--http-port', '0']);
    assert.equal(code, 1);
    assert.match(stderr, /there is no folder .*nereid-no-such-repository.*MODEL_LOAD_FAILED/);
  });
});
