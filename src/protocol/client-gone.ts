import type { ServerResponse } from 'node:http';

/** Aborts when the client leaves before its response is sent: for work that is done only for it. */
export function clientGone(response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  if (response.destroyed) controller.abort();
  else {
    response.once('close', () => {
      if (!response.writableFinished) controller.abort();
    });
  }
  return controller.signal;
}
