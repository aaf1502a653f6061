import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { packageRoot } from '../../src/base/entry.ts';
import { endsWithTests } from '../support/children.ts';

/**
 * The README's commands, as printed: shell blocks are run line by line against the built dist/, with only the port numbers and /tmp
 * replaced; `make` targets are checked with a dry run, since this test runs inside one. TypeScript blocks of README and
 * docs/library.md are run too, so `import 'nereid'` is the built package.
 */
const isBuilt = existsSync(join(packageRoot, 'dist/cli/main.js'));
const skip = isBuilt ? false : 'dist/ is not built (make setup)';
const commandTimeoutMs = 120_000;

function blocks(file: string, language: string): string[] {
  const text = readFileSync(join(packageRoot, file), 'utf8');
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    (match) => match[1] as string,
  );
}

/** A block's commands; a trailing backslash goes on. */
function commands(block: string): string[] {
  return block
    .replaceAll('\\\n', ' ')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

describe('the commands of README.md', { skip }, () => {
  const ports = new Map<string, number>();
  const servers: ChildProcess[] = [];
  // Inside the package, so that 'nereid' and 'openai' resolve as they do for a user who installed them.
  const root = join(packageRoot, '.cache');
  mkdirSync(root, { recursive: true });
  const folder = mkdtempSync(join(root, 'readme-'));
  const environment = {
    ...process.env,
    NODE_OPTIONS: '',
    NEREID_CACHE: join(folder, 'cache'),
    NEREID_OFFLINE: '1',
  };

  before(async () => {
    for (const port of ['8000', '8001', '8002']) ports.set(port, await freePort());
  });
  after(async () => {
    await Promise.all(servers.map(stop));
    rmSync(folder, { recursive: true, force: true });
  });

  async function stop(server: ChildProcess): Promise<void> {
    if (server.exitCode !== null) return;
    const gone = once(server, 'exit');
    server.kill('SIGINT');
    await gone;
  }

  /** Other ports than the printed ones, another folder than /tmp. */
  const localized = (command: string): string =>
    command.replaceAll(/\b800[012]\b/g, (port) => String(ports.get(port))).replaceAll('/tmp/', `${folder}/`);

  async function serve(command: string): Promise<void> {
    await Promise.all(servers.splice(0).map(stop));
    const server = spawn('bash', ['-c', `exec ${command}`], {
      cwd: packageRoot,
      env: environment,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    servers.push(server);
    endsWithTests(server);
    let log = '';
    await new Promise<void>((resolve, reject) => {
      server.stderr?.on('data', (chunk) => {
        log += chunk;
        if (log.includes('Serving')) resolve();
      });
      server.once('exit', () => reject(new Error(`${command}\n${log}`)));
    });
  }

  function run(command: string): string {
    const [program, target] = command.split(' ');
    if (program === 'make')
      return execFileSync('make', ['-n', target as string], { cwd: packageRoot, encoding: 'utf8' });
    const shell = command.startsWith('curl') ? `${command} --fail-with-body` : command;
    const done = spawnSync('bash', ['-c', shell], {
      cwd: packageRoot,
      env: environment,
      encoding: 'utf8',
      timeout: commandTimeoutMs,
    });
    assert.equal(done.status, 0, `${command}\n${done.stdout}\n${done.stderr}`);
    return done.stdout;
  }

  test('every shell block runs as printed', async () => {
    // What `make run` leaves serving, where nothing can be downloaded.
    await serve(localized('bin/nereid serve --http-port 8000 --self-test'));
    const outputs = new Map<string, string>();
    for (const printed of blocks('README.md', 'sh').flatMap(commands)) {
      const command = localized(printed);
      if (command.includes(' serve ')) await serve(command);
      else outputs.set(printed, run(command));
    }
    const answerOf = (start: string): string =>
      [...outputs].find(([command]) => command.includes(start))?.[1] ?? '';
    assert.match(answerOf('chat/completions'), /tower/);
    assert.match(answerOf('doctor'), /ggml/);
    assert.match(answerOf('generate'), /river \(noun\)/);
    assert.match(answerOf('/v1/models'), /"id":"nereid-16m"/);
    assert.match(answerOf('/metrics'), /vllm:num_requests_running/);
    assert.match(answerOf('make test'), /tools\/test\.mjs/);
  });

  test('the built code finds its worker: a long prompt is tokenized off the loop', async () => {
    await serve(localized('bin/nereid serve nereid-16m --http-port 8000'));
    const prompt = 'a long text about rivers and lighthouses. '.repeat(1000);
    const response = await fetch(localized('http://localhost:8000/tokenize'), {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt }),
    });
    const { count } = (await response.json()) as { count: number };
    assert.ok(count > 5_000, `${response.status}: ${count} tokens`);
  });

  for (const [file, expected] of [
    ['README.md', /./],
    ['docs/library.md', /tower/],
  ] as const) {
    test(`the TypeScript of ${file} runs`, async () => {
      if (file === 'README.md') await serve(localized('bin/nereid serve nereid-16m --http-port 8000'));
      for (const [index, block] of blocks(file, 'ts').entries()) {
        const script = join(folder, `${file.replaceAll('/', '-')}-${index}.mts`);
        writeFileSync(script, localized(block));
        assert.match(run(`node --import tsx ${script}`), expected);
      }
    });
  }
});
