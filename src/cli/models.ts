import Table from 'cli-table3';
import { Command } from 'commander';
import { Cache } from '../artifact/cache.ts';
import { type CatalogEntry, describeSource, loadCatalog } from '../artifact/catalog.ts';
import { localCopy } from '../artifact/resolve-model.ts';
import { CliError } from './errors.ts';
import { formatBytes } from './progress.ts';

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
    )
    .addHelpText('after', examples)
    .action(async (options: { json?: boolean; prune?: string }) => {
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

async function prune(size: string): Promise<void> {
  const cache = new Cache();
  const removed = await cache.pruneEngines(parseSize(size));
  for (const path of removed) console.log(`removed ${path}`);
  console.log(`${removed.length} engines removed; the cache takes ${formatBytes(await cache.sizeBytes())}`);
}

const unitBytes: Record<string, number> = { '': 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12 };

/** Bytes of `2GB`, `500 MB`, `0`. @throws CliError */
function parseSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)b?$/i.exec(text.trim());
  const unit = unitBytes[(match?.[2] ?? '').toLowerCase()];
  if (match && unit !== undefined) return Number(match[1]) * unit;
  throw new CliError('CLI_VALUE_INVALID', `--prune takes a size such as 500MB or 2GB, not '${text}'`);
}
