import type { StoredTensor } from '../checkpoint/tensor-file.ts';
import { ModelError } from '../models/errors.ts';
import type { Hyperparameters } from '../models/hyperparameters.ts';

/** What `config.json` and GGUF metadata call the number of layers. */
const layerFields = ['num_hidden_layers', 'n_layer', 'num_layers'];

/**
 * Refuses a number of layers that the checkpoint cannot have: each has a tensor at least. Before anything is made for each of them.
 * @param counted the fields that hold the number, by name
 * @throws ModelError MODEL_CONFIG_INVALID
 */
export function checkLayerCount(
  counted: Readonly<Record<string, unknown>>,
  tensors: ReadonlyMap<string, StoredTensor>,
): void {
  for (const [field, value] of Object.entries(counted)) {
    if (typeof value !== 'number' || value <= tensors.size) continue;
    throw new ModelError(
      'MODEL_CONFIG_INVALID',
      `${field} is ${value}, but the checkpoint has only ${tensors.size} tensors; fetch the files again`,
    );
  }
}

/** The fields of a `config.json` for {@link checkLayerCount}. */
export function layerFieldsOf(config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(layerFields.map((field) => [field, config[field]]));
}

/**
 * Refuses widths that no tensor of the checkpoint is large enough for, before tables of that size are made.
 * @throws ModelError MODEL_CONFIG_INVALID
 */
export function checkWidths(p: Hyperparameters, tensors: ReadonlyMap<string, StoredTensor>): void {
  let largest = 0;
  for (const { shape } of tensors.values())
    largest = Math.max(
      largest,
      shape.reduce((a, b) => a * b, 1),
    );
  const widths = {
    'the model’s width': p.width,
    'the feed-forward width': p.feedForwardWidth,
    'the vocabulary': p.vocabularySize,
    'the width of all heads': p.heads * p.headDimension,
  };
  for (const [what, width] of Object.entries(widths)) {
    if (width <= largest) continue;
    throw new ModelError(
      'MODEL_CONFIG_INVALID',
      `${what} is ${width}, but the checkpoint's largest tensor has ${largest} elements; fetch the files again`,
    );
  }
}
