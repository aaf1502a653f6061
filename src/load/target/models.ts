import { messageOf } from '../../base/errors.ts';
import { LoadError } from '../errors.ts';

/** Time a server has to list its models. */
const listTimeoutMs = 10_000;

/**
 * The first model that an OpenAI server lists: what to name where the user named none.
 * @throws LoadError LOAD_TARGET_UNREACHABLE, LOAD_TARGET_REFUSED
 */
export async function firstModel(url: string, headers: Readonly<Record<string, string>>): Promise<string> {
  const base = (url.includes('://') ? url : `http://${url}`).replace(/\/(v1\/?)?$/, '');
  let response: Response;
  try {
    response = await fetch(`${base}/v1/models`, { headers, signal: AbortSignal.timeout(listTimeoutMs) });
  } catch (cause) {
    const why = messageOf(cause instanceof Error && cause.cause ? cause.cause : cause);
    throw new LoadError(
      'LOAD_TARGET_UNREACHABLE',
      `${base} does not answer (${why}); start the server, or give its address`,
      { cause },
    );
  }
  const text = await response.text();
  if (!response.ok)
    throw new LoadError(
      'LOAD_TARGET_REFUSED',
      `${base}/v1/models answered ${response.status}: ${text.slice(0, 300)}; give --model and, where needed, --api-key`,
    );
  const id = modelIn(text);
  if (id === undefined)
    throw new LoadError('LOAD_TARGET_REFUSED', `${base}/v1/models lists no model; give --model`);
  return id;
}

function modelIn(text: string): string | undefined {
  try {
    const body = JSON.parse(text) as { data?: { id?: string }[] };
    return body.data?.[0]?.id;
  } catch {
    return undefined;
  }
}
