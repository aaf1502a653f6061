import { isAbsolute } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { adaptersUnsupported } from '../../runtime/errors.ts';
import { ProtocolError } from '../errors.ts';
import type { ServedModel } from '../served-model.ts';
import type { ServedModels } from '../served-models.ts';
import { parseRequest } from '../validation.ts';

const name = z.string().min(1).max(255);
const base = { model: z.string().nullish() };

/** vLLM's fields, and `model`: which of several served models the adapter is for (default the first). */
const loadFields = {
  ...base,
  lora_name: name,
  lora_path: z.string().min(1).max(4096),
  load_inplace: z.boolean().nullish(),
};
const unloadFields = { ...base, lora_name: name, lora_int_id: z.number().int().nullish() };
const loadRequest = z.object(loadFields);
const unloadRequest = z.object(unloadFields);

/** vLLM's routes that load and unload LoRA adapters, with its answers. Whoever may ask them can make the server read any path. */
export function addAdapterRoutes(api: FastifyInstance, models: ServedModels): void {
  api.post('/v1/load_lora_adapter', async (request, reply) => {
    const body = parseRequest(loadRequest, request.body);
    const { lora_name, lora_path, load_inplace } = body;
    const model = baseModelOf(models, body.model);
    if (models.isBase(lora_name)) {
      throw invalid(`'${lora_name}' is the name of a served model; give the adapter another`, 'lora_name');
    }
    if (!isAbsolute(lora_path))
      throw invalid('lora_path must be an absolute path on the server', 'lora_path');
    if (!load_inplace && hasAdapter(model, lora_name)) {
      const problem = `The lora adapter '${lora_name}' has already been loaded.`;
      throw invalid(
        `${problem} If you want to load the adapter in place, set 'load_inplace' to True.`,
        'lora_name',
      );
    }
    await directoryOf(model).load({ name: lora_name, path: lora_path });
    return reply.type('text/plain').send(`Success: LoRA adapter '${lora_name}' added successfully.`);
  });
  api.post('/v1/unload_lora_adapter', async (request, reply) => {
    const { lora_name, model: asked } = parseRequest(unloadRequest, request.body);
    const model = baseModelOf(models, asked);
    if (!hasAdapter(model, lora_name)) {
      const message = `The lora adapter '${lora_name}' cannot be found.`;
      throw new ProtocolError('MODEL_NOT_FOUND', message, { parameter: 'lora_name' });
    }
    await directoryOf(model).unload(lora_name);
    return reply.type('text/plain').send(`Success: LoRA adapter '${lora_name}' removed successfully.`);
  });
}

function baseModelOf(models: ServedModels, asked: string | null | undefined): ServedModel {
  const model = models.resolve(asked ?? undefined);
  if (model.adapter === undefined) return model;
  throw invalid(`'${model.name}' is an adapter itself; name the model that it is of`, 'model');
}

function directoryOf({ client }: ServedModel) {
  if (client.adapters) return client.adapters;
  throw adaptersUnsupported(client.description.device);
}

function hasAdapter({ client }: ServedModel, adapter: string): boolean {
  return client.adapters?.list().some((one) => one.name === adapter) ?? false;
}

function invalid(message: string, parameter: string): ProtocolError {
  return new ProtocolError('PARAMETER_INVALID', message, { parameter });
}
