/**
 * The house rules that a glance can check, as pure functions from a file's text to complaints. `tidy.test.ts` runs them over the
 * tree and each over a text that breaks it.
 */

export interface SourceFile {
  /** Relative to the repository's root, with '/'. */
  path: string;
  text: string;
}

/** Top to bottom: each may import only from itself and those above it (DESIGN, "Layers"). */
export const layers = [
  'base',
  'trace',
  'graph',
  'models',
  'checkpoint',
  'tokenizer',
  'device',
  'builder',
  'artifact',
  'runtime',
  'generation',
  'repository',
  'protocol',
  'load',
  'mlperf',
  'eval',
  'cli',
] as const;

/** Layers that speak only wire protocols: they may import nothing of the server but these. */
const wireOnly: Readonly<Record<string, readonly string[]>> = {
  load: ['base', 'trace', 'tokenizer', 'load'],
  mlperf: ['base', 'trace', 'tokenizer', 'load', 'mlperf'],
  eval: ['base', 'trace', 'tokenizer', 'load', 'eval'],
};

const fileLinesMax = 500;
const functionLinesMax = 60;

function layerOf(path: string): string | undefined {
  return /^src\/([^/]+)\//.exec(path)?.[1];
}

/** Relative imports of a module, resolved against its path. */
function importsOf({ path, text }: SourceFile): string[] {
  const pattern = /(?:from|import)\s*\(?\s*'(\.[^']+)'/g;
  return [...text.matchAll(pattern)].map((match) => {
    const parts = path.split('/').slice(0, -1);
    for (const part of (match[1] as string).split('/')) {
      if (part === '..') parts.pop();
      else if (part !== '.') parts.push(part);
    }
    return parts.join('/');
  });
}

export function checkLayers(file: SourceFile): string[] {
  const layer = layerOf(file.path);
  if (!layer || file.path.endsWith('.test.ts')) return [];
  const rank = layers.indexOf(layer as (typeof layers)[number]);
  if (rank < 0) return [`${file.path}: src/${layer}/ is no layer of DESIGN`];
  const complaints: string[] = [];
  for (const target of importsOf(file)) {
    const other = layerOf(target);
    if (!other) continue;
    const allowed =
      wireOnly[layer]?.includes(other) ?? layers.indexOf(other as (typeof layers)[number]) <= rank;
    if (!allowed) complaints.push(`${file.path}: ${layer}/ must not import ${other}/ (${target})`);
  }
  return [...complaints, ...checkProtocolNeighbours(file)];
}

/** Folders that all protocols share, as they share `protocol/*.ts`. */
const sharedByProtocols: readonly string[] = ['tool-parsers', 'reasoning'];

/** Protocols share `protocol/*.ts` but know nothing of each other. */
function checkProtocolNeighbours(file: SourceFile): string[] {
  const own = /^src\/protocol\/([^/]+)\//.exec(file.path)?.[1];
  if (!own) return [];
  return importsOf(file)
    .filter((target) => {
      const other = /^src\/protocol\/([^/]+)\//.exec(target)?.[1];
      return other !== undefined && other !== own && !sharedByProtocols.includes(other);
    })
    .map((target) => `${file.path}: one protocol must not import another (${target})`);
}

export function checkFileLength(file: SourceFile): string[] {
  const lines = file.text.split('\n').length;
  return lines > fileLinesMax ? [`${file.path}: ${lines} lines, over ${fileLinesMax}`] : [];
}

/** Functions and methods, found by their opening line and the closing brace at the same indentation (the formatter guarantees it). */
export function checkFunctionLength(file: SourceFile): string[] {
  const lines = file.text.split('\n');
  const opening =
    /^(\s*)(?:export\s+)?(?:default\s+)?(?:static\s+)?(?:async\s+)?(?:function\b|(?:get |set )?#?\w+\(|(?:const|let) \w+ = (?:async )?\().*\{$/;
  const keyword = /^\s*(?:if|for|while|switch|catch|return|describe|test|suite|it)\b/;
  const complaints: string[] = [];
  lines.forEach((line, start) => {
    const match = opening.exec(line);
    if (!match || keyword.test(line)) return;
    const closing = `${match[1]}}`;
    const end = lines.findIndex((other, index) => index > start && other.startsWith(closing));
    const length = end - start - 1;
    if (end > 0 && length > functionLinesMax) {
      complaints.push(`${file.path}:${start + 1}: a function of ${length} lines, over ${functionLinesMax}`);
    }
  });
  return complaints;
}

/** Exports need TSDoc; a one-line type alias or re-export may speak for itself. */
export function checkDocumentation(file: SourceFile): string[] {
  if (!file.path.startsWith('src/') || file.path.endsWith('.test.ts')) return [];
  const lines = file.text.split('\n');
  const complaints: string[] = [];
  lines.forEach((line, index) => {
    if (!/^export (?:async )?(?:abstract )?(?:function|class|interface) /.test(line)) return;
    const before = lines[index - 1] ?? '';
    const isOverload = /^export (?:async )?function/.test(before);
    if (!before.trimEnd().endsWith('*/') && !isOverload)
      complaints.push(`${file.path}:${index + 1}: undocumented export`);
  });
  return complaints;
}

const banned: readonly { pattern: RegExp; why: string; where: RegExp }[] = [
  { pattern: /\b(?:TODO|FIXME|XXX)\b/, why: 'finish it, or say it in an issue', where: /./ },
  {
    pattern: /console\.(?:log|error|warn)/,
    why: 'the CLI prints; everything else logs or returns',
    where: /^src\/(?!cli\/)/,
  },
  { pattern: /Math\.random\(/, why: 'randomness comes in as an argument (base/random.ts)', where: /^src\// },
  { pattern: /@ts-(?:ignore|nocheck|expect-error)/, why: 'say it with types', where: /^src\// },
  { pattern: /\b(?:test|it|describe)\.only\(/, why: 'it hides the other tests', where: /./ },
];

export function checkBanned(file: SourceFile): string[] {
  if (file.path.startsWith('test/tidy/')) return [];
  return file.text
    .split('\n')
    .flatMap((line, index) =>
      banned
        .filter(({ pattern, where }) => where.test(file.path) && pattern.test(line))
        .map(({ pattern, why }) => `${file.path}:${index + 1}: ${pattern.source} is banned: ${why}`),
    );
}

/**
 * Circles of imports, types included: whoever reads one module of a circle has to read them all.
 * @returns each circle once, as the path around it
 */
export function importCircles(files: readonly SourceFile[]): string[] {
  const imports = new Map(files.map((file) => [file.path, importsOf(file)]));
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (path: string, trail: string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) circles.push([...trail.slice(start), path].join(' → '));
    if (start >= 0 || done.has(path)) return;
    for (const target of imports.get(path) ?? []) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const { path } of files) if (path.startsWith('src/')) visit(path, []);
  return circles;
}

/** Modules that nothing imports and nothing starts. `roots` are entry points. */
export function deadFiles(files: readonly SourceFile[], roots: readonly RegExp[]): string[] {
  const imported = new Set(files.flatMap(importsOf));
  const started = files.flatMap(({ text }) =>
    [...text.matchAll(/(?:entryPoint|startWorker)\('([^']+)'/g)].map((match) => `src/${match[1]}.ts`),
  );
  return files
    .map(({ path }) => path)
    .filter((path) => path.startsWith('src/') && !path.endsWith('.test.ts'))
    .filter(
      (path) => !imported.has(path) && !started.includes(path) && !roots.some((root) => root.test(path)),
    )
    .map((path) => `${path}: nothing imports it`);
}

export const fileRules = {
  checkLayers,
  checkFileLength,
  checkFunctionLength,
  checkDocumentation,
  checkBanned,
};
