import { AdaptedModels } from './adapted-model.ts';
import { ProtocolError } from './errors.ts';
import type { ServedModel } from './served-model.ts';

/** The models of one server, by name and alias; the first is the default one. */
export class ServedModels {
  readonly list: readonly ServedModel[];
  readonly #byName = new Map<string, ServedModel>();
  readonly #adapted: readonly AdaptedModels[];

  /** @throws ProtocolError PARAMETER_INVALID for a name that two models carry */
  constructor(models: readonly ServedModel[]) {
    this.list = models;
    this.#adapted = models.map((model) => new AdaptedModels(model));
    for (const model of models) {
      for (const name of [model.name, ...model.aliases]) {
        if (this.#byName.has(name)) {
          throw new ProtocolError('PARAMETER_INVALID', `two served models are called '${name}'; rename one`);
        }
        this.#byName.set(name, model);
      }
    }
  }

  /** Models of their own that are adapters of the others, as they are loaded now. */
  get adapters(): ServedModel[] {
    return this.#adapted.flatMap(({ list }) => list);
  }

  /** Whether a model that is no adapter has that name. */
  isBase(name: string): boolean {
    return this.#byName.has(name);
  }

  /** Every name that {@link resolve} takes. */
  get names(): string[] {
    return [...this.#byName.keys(), ...this.adapters.map(({ name }) => name)];
  }

  /** @throws ProtocolError MODEL_NOT_FOUND, listing the served ones. No name: the default model. */
  resolve(name: string | undefined): ServedModel {
    const model = name === undefined ? this.list[0] : (this.#byName.get(name) ?? this.#adapter(name));
    if (model) return model;
    const served = this.names.map((known) => `'${known}'`).join(', ');
    const asked =
      name === undefined ? 'no model is loaded' : `the model '${name.slice(0, 200)}' is not served here`;
    throw new ProtocolError('MODEL_NOT_FOUND', `${asked}; served: ${served || 'none'}`, {
      parameter: 'model',
    });
  }

  #adapter(name: string): ServedModel | undefined {
    for (const adapted of this.#adapted) {
      const found = adapted.find(name);
      if (found) return found;
    }
    return undefined;
  }

  /** Why requests would not be answered now, or undefined. */
  get notReadyReason(): string | undefined {
    if (this.list.length === 0) return 'no model is loaded';
    const waiting = this.list.filter((model) => !model.client.ready);
    const givenUp = waiting
      .map((model) => model.client.notReadyReason)
      .find((reason) => reason !== undefined);
    if (waiting.length === 0 || givenUp) return givenUp;
    return `the engine is starting or restarting: ${waiting.map((model) => model.name).join(', ')}`;
  }
}
