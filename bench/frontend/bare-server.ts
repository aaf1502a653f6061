import Fastify, { type FastifyInstance } from 'fastify';

/** Words of the length that tokens have. */
const words = [' the', ' story', ' of', ' a', ' little', ' robot', ',', ' who'];

/**
 * The floor: a fastify server that writes the same events at the same pace (one to every stream a turn of the event loop), with no
 * engine, tokenizer, limits or metrics, in the way its documentation shows (`reply.hijack()` and `reply.raw.write`).
 */
export function bareServer(): FastifyInstance {
  const app = Fastify();
  const active = new Set<() => void>();
  let looping = false;
  const turn = () => {
    for (const write of active) write();
    looping = active.size > 0;
    if (looping) setImmediate(turn);
  };
  app.post('/v1/chat/completions', (request, reply) => {
    const { max_tokens: tokens } = request.body as { max_tokens: number };
    reply.hijack();
    const { raw } = reply;
    raw.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' });
    const event = (delta: object, finish: string | null) =>
      `data: ${JSON.stringify({
        id: 'chatcmpl-00000000000000000000000000000',
        object: 'chat.completion.chunk',
        created: 1_700_000_000,
        model: 'bench',
        system_fingerprint: 'fp_000000000000',
        choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }],
      })}\n\n`;
    raw.write(event({ role: 'assistant', content: '' }, null));
    const [head, tail] = event({ content: '@' }, null).split('"@"') as [string, string];
    let written = 0;
    const write = () => {
      const text = JSON.stringify(words[written % words.length]);
      written++;
      raw.write(head + text + tail);
      if (written < tokens) return;
      active.delete(write);
      raw.end('data: [DONE]\n\n');
    };
    active.add(write);
    if (!looping) {
      looping = true;
      setImmediate(turn);
    }
  });
  return app;
}
