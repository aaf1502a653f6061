import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../../base/errors.ts';
import { grammarFormat, structuralTagOf } from '../../runtime/guidance/grammar/structural-tag.ts';
import { type GuideWish, guideTextLengthMax } from '../../runtime/guidance/grammar/wish.ts';
import type { Guide } from '../../runtime/guidance/guide.ts';
import { ProtocolError } from '../errors.ts';
import { guideFor } from '../guides.ts';
import type { ServedModel } from '../served-model.ts';
import type { GuidedDecodingParams, InferenceRequest } from './messages.ts';

/** By number of `GuideType`, in TensorRT-LLM's order. */
const wishes: readonly ((guide: string) => GuideWish)[] = [
  () => ({ kind: 'json_object' }),
  (schema) => ({ kind: 'json_schema', schema }),
  (pattern) => ({ kind: 'regex', pattern }),
  (grammar) => ({ kind: 'grammar', grammar }),
];

/**
 * What an answer must look like: `guided_decoding_params`, or the schema of `output_schema_hash`, behind the token of `tools_id` if there is one, and
 * then only if that comes, unless `force_tools`.
 * @param schemas folder whose files are schemas, by their hashes; undefined: the server has none
 * @throws ProtocolError PARAMETER_INVALID, PARAMETER_UNSUPPORTED
 */
export async function guideOf(
  request: InferenceRequest,
  model: ServedModel,
  schemas: string | undefined,
): Promise<Guide | undefined> {
  const { guided_decoding_params: params, output_schema_hash: hash, force_tools: isForced } = request;
  if (params && hash) {
    throw invalid('guided_decoding_params', 'send guided_decoding_params or output_schema_hash, not both');
  }
  if (params) return guideFor(wishOf(params), 'guided_decoding_params');
  if (!hash) {
    if (!isForced) return undefined;
    throw invalid('force_tools', "force_tools needs output_schema_hash, of the tools' schema");
  }
  const parameter = 'output_schema_hash';
  const schema = await schemaOf(hash, schemas);
  const { tools_id: toolsId } = request;
  if (toolsId === undefined) return guideFor({ kind: 'json_schema', schema }, parameter);
  // As the Python layer does with functions that are not strict: what a grammar cannot hold is the model's.
  const { source } = guideFor({ kind: 'json_schema', schema, isLenient: true }, parameter);
  return callGuide(source, toolsTokenOf(toolsId, model), isForced === true);
}

function wishOf({ guide_type: type, guide }: GuidedDecodingParams): GuideWish {
  const wish = wishes[type];
  if (!wish) {
    const known = 'JSON (0), JSON_SCHEMA (1), REGEX (2) or EBNF_GRAMMAR (3)';
    throw invalid('guided_decoding_params', `guide_type is ${type}; it must be ${known}`);
  }
  if (type > 0 && guide === '') throw invalid('guided_decoding_params', 'the guide is empty');
  return wish(guide);
}

/** A call begins with its token: the whole answer, or whatever follows that token. */
function callGuide(grammar: string, token: string, isForced: boolean): Guide {
  const call = { type: 'tag', begin: token, content: grammarFormat(grammar), end: '' };
  const free = { type: 'triggered_tags', triggers: [token], tags: [call], stop_after_first: true };
  const whole = { type: 'sequence', elements: [{ type: 'const_string', value: token }, call.content] };
  return {
    kind: 'structural_tag',
    source: structuralTagOf(isForced ? whole : free),
    specialTokens: [token],
  };
}

function toolsTokenOf(id: number, { tokenizer }: ServedModel): string {
  const token = tokenizer.token(id);
  if (token !== undefined && tokenizer.isSpecial(id)) return token;
  throw invalid('tools_id', `tools_id ${id} is no special token of the model, so it cannot begin a call`);
}

/** The schema of a hash. Names are checked: they become part of a path. */
async function schemaOf(hash: string, folder: string | undefined): Promise<string> {
  const parameter = 'output_schema_hash';
  if (!/^[A-Za-z0-9_-]{1,128}$/.test(hash)) throw invalid(parameter, `${parameter} is no hash`);
  if (folder === undefined) {
    const problem = `${parameter} needs schemas, and the server was started without --briton-schemas`;
    throw new ProtocolError('PARAMETER_UNSUPPORTED', `${problem}; send guided_decoding_params`, {
      parameter,
    });
  }
  for (const name of [hash, `${hash}.json`]) {
    const text = await readBounded(join(folder, name));
    if (text !== undefined) return text;
  }
  throw invalid(parameter, `the server has no schema '${hash}'; write it to its --briton-schemas folder`);
}

/** @returns undefined where there is no such file */
async function readBounded(path: string): Promise<string | undefined> {
  const parameter = 'output_schema_hash';
  const file = await open(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return undefined;
    throw new ProtocolError('PARAMETER_INVALID', messageOf(cause), { parameter, cause });
  });
  if (!file) return undefined;
  try {
    const { size } = await file.stat();
    if (size <= guideTextLengthMax) return await file.readFile('utf8');
    throw invalid(parameter, `the schema has ${size} bytes; at most ${guideTextLengthMax} are taken`);
  } finally {
    await file.close();
  }
}

function invalid(parameter: string, message: string): ProtocolError {
  return new ProtocolError('PARAMETER_INVALID', message, { parameter });
}
