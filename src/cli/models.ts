import Table from 'cli-table3';
import { Command } from 'commander';
import { Cache } from '../artifact/cache.ts';
import { type CatalogEntry, describeSource, loadCatalog } from '../artifact/catalog.ts';
import { localCopy } from '../artifact/resolve-model.ts';
import { formatBytes } from './progress.ts';
import { sizeOption } from './values.ts';

const examples = `
Examples:
  nereid models                 the catalogue, and what is on this machine
  nereid models --json
  nereid models --prune 2GB     remove cached engines, longest unused first, until 2 GB are left`;

/** `nereid models` */
export function createCommand(): Command {
  return new Command()
    .description(
      'Lists the models that Nereid knows by name, where they come from, and which are on this machine.',
    )
    .option('--json', 'print JSON')
    .option(
      '--prune <size>',
      'remove cached engines, longest unused first, until they take at most this (e.g. 500MB)',
      sizeOption,
    )
    .addHelpText('after', examples)
    .action(async (options: { json?: boolean; prune?: number }) => {
      if (options.prune !== undefined) await prune(options.prune);
      else list(options.json ?? false);
    });
}

function list(json: boolean): void {
  const cache = new Cache();
  const catalog = loadCatalog();
  const rows = catalog.models.map((entry) => describeEntry(entry, cache, catalog.default));
  if (json) {
    console.log(JSON.stringify({ cache: cache.root, models: rows }, undefined, 2));
    return;
  }
  const table = new Table({
    head: ['name', 'description', 'licence', 'sources, in order', 'local'],
    style: { head: [], border: [] },
  });
  for (const row of rows) {
    const name = [row.name + (row.isDefault ? ' (default)' : ''), ...row.aliases].join('\n');
    const sources = row.sources.map((source) => source.name).join('\n');
    const local = row.sources.map((source) => (source.path ? 'yes' : '-')).join('\n');
    table.push([name, row.description, row.licence, sources, local]);
  }
  console.log(table.toString());
  console.log('Any .gguf file, Hugging Face folder or hub name (org/name) works as well. Cache:', cache.root);
}

function describeEntry(entry: CatalogEntry, cache: Cache, defaultName: string) {
  const { name, aliases, description, licence } = entry;
  const sources = entry.sources.map((source) => ({
    name: describeSource(source),
    path: localCopy(entry, source, cache),
  }));
  return { name, aliases, description, licence, isDefault: name === defaultName, sources };
}

async function prune(bytesMax: number): Promise<void> {
  const cache = new Cache();
  const removed = await cache.pruneEngines(bytesMax);
  for (const path of removed) console.log(`removed ${path}`);
  console.log(`${removed.length} engines removed; the cache takes ${formatBytes(await cache.sizeBytes())}`);
}
