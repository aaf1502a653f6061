import { request } from 'node:http';
import { gunzipSync, inflateSync } from 'node:zlib';
import type { HttpCase } from './http-case.ts';

/** What a server said, as the goldens keep it. */
export interface Recorded {
  status: number;
  /** Without charset; '' for none. */
  type: string;
  headerLength?: string;
  /** How the body was compressed; it is kept plain. */
  encoding?: string;
  /** UTF-8 text, or `base64:…` for bodies with binary tensors. */
  body: string;
}

/** As it stands in a text within JSON. */
const escaped = (text: string): string => text.replaceAll('"', '\\"');

/** Where a configuration names the backend that differs. */
const twinEscaped = escaped('"backend":"TWIN"');

/**
 * Sends one case over a connection of its own.
 * @param backend of configurations that name none of their own
 */
export function ask(
  port: number,
  { method, path, headers, body: given }: HttpCase,
  backend = 'identity',
): Promise<Recorded> {
  const body =
    typeof given === 'string' ? given.replace(twinEscaped, escaped(`"backend":"${backend}"`)) : given;
  return new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) };
    const options = {
      host: '127.0.0.1',
      port,
      method,
      path,
      headers: { ...length, ...headers },
      agent: false,
    };
    const sent = request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const encoding = response.headers['content-encoding'];
        const bytes = plainBytes(Buffer.concat(chunks), encoding);
        const headerLength = response.headers['inference-header-content-length'] as string | undefined;
        const text =
          headerLength === undefined ? bytes.toString('utf8') : `base64:${bytes.toString('base64')}`;
        const type = (response.headers['content-type'] ?? '').split(';')[0] as string;
        resolve({
          status: response.statusCode ?? 0,
          type,
          ...(headerLength && { headerLength }),
          ...(encoding && { encoding }),
          body: text,
        });
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

function plainBytes(bytes: Buffer, encoding: string | undefined): Buffer {
  if (encoding === 'gzip') return gunzipSync(bytes);
  return encoding === 'deflate' ? inflateSync(bytes) : bytes;
}
