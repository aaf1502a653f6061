import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import { parameterText } from './config/complete.ts';
import type { EngineHost } from './engine-host.ts';
import { wireEnsemble } from './ensemble/wiring.ts';
import { LoadError } from './entry.ts';
import { RepositoryError } from './errors.ts';
import { modelNames } from './folder.ts';
import { type LoaderParts, type PlannedModel, planModel } from './loader.ts';

/** What is wrong with one model; nothing: it should load. */
export interface ModelReport {
  name: string;
  problems: string[];
}

/** Nothing is loaded here. */
const noEngines: EngineHost = {
  acquire: async () => {
    throw new RepositoryError('UNAVAILABLE', 'a check starts no engines');
  },
};

const silent = { info: () => {}, warn: () => {}, error: () => {} };

/** Reads and checks every model of a repository: configurations, versions, folders that parameters name, ensembles' wiring. */
export async function checkRepository(folder: string): Promise<ModelReport[]> {
  const planned = new Map<string, PlannedModel>();
  const reports: ModelReport[] = [];
  const parts: LoaderParts = {
    engines: noEngines,
    clock: systemClock,
    logger: silent,
    autoComplete: true,
    model: (name) => {
      throw new RepositoryError('NOT_FOUND', `'${name}' is not loaded`);
    },
  };
  for (const name of await modelNames(folder)) {
    const report: ModelReport = { name, problems: [] };
    reports.push(report);
    try {
      const model = await planModel(name, join(folder, name), undefined, parts);
      planned.set(name, model);
      report.problems.push(...problemsOfParameters(model));
    } catch (thrown) {
      report.problems.push(thrown instanceof LoadError ? thrown.reason : messageOf(thrown));
    }
  }
  for (const report of reports) {
    const model = planned.get(report.name);
    if (model?.config.ensemble_scheduling) report.problems.push(...problemsOfWiring(model, planned));
  }
  return reports;
}

/** Parameters that name a folder, by their key. */
const folders = ['tokenizer_dir', 'gpt_model_path'];

function problemsOfParameters({ config, folder, versions }: PlannedModel): string[] {
  const problems: string[] = [];
  for (const key of folders) {
    const path = parameterText(config, key);
    // Names of the catalogue and of hubs are no paths.
    if (path?.includes('/') && (path.startsWith('/') || path.startsWith('.')) && !existsSync(path)) {
      problems.push(`the parameter ${key} names ${path}, which does not exist`);
    }
    const isPlaceholder = Object.hasOwn(config.parameters, key) && path === undefined;
    const hasOwnEngine = versions.some((version) => existsSync(join(folder, version, 'engine.json')));
    if (isPlaceholder && !hasOwnEngine)
      problems.push(`the parameter ${key} is not filled (nereid repo fill)`);
  }
  return problems;
}

function problemsOfWiring(model: PlannedModel, planned: ReadonlyMap<string, PlannedModel>): string[] {
  try {
    wireEnsemble(model.config, (step) => {
      const inner = planned.get(step.model_name);
      if (inner) return inner.config;
      throw new RepositoryError(
        'NOT_FOUND',
        `the step '${step.model_name}' is no model that could be loaded`,
      );
    });
    return [];
  } catch (thrown) {
    return [messageOf(thrown)];
  }
}
