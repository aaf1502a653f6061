import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

/** Presses Ctrl-C once the server has answered so many requests more; gives up when the program has ended by itself. */
export async function interruptOnceAnswered(
  child: ChildProcess,
  answered: () => Promise<number>,
  more = 100,
): Promise<void> {
  const before = await answered();
  while (child.exitCode === null && (await answered()) < before + more) await sleep(50);
  child.kill('SIGINT');
}

/** Requests that the OpenAI API of a server has answered. */
export async function answeredChats(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const counts = [...text.matchAll(/^vllm:request_success_total\{.*\} (\d+)$/gm)];
  return counts.reduce((sum, [, count]) => sum + Number(count), 0);
}

/** Requests that a model of KServe's has answered. */
export async function answeredInferences(url: string, model: string): Promise<number> {
  const response = await fetch(`${url}/v2/models/${model}/stats`);
  const { model_stats: rows } = (await response.json()) as {
    model_stats: { inference_stats: { success: { count: number } } }[];
  };
  return rows.reduce((sum, row) => sum + row.inference_stats.success.count, 0);
}
