import { Registry } from '../../base/registry.ts';
import type { ReasoningFormat } from './format.ts';

/** Formats by name (`--reasoning-parser`). vLLM has a name a model family; those below all write the same tags. */
export const reasoningFormats = new Registry<{ format: ReasoningFormat }>('reasoning parser', {
  think: () => import('./think.ts'),
  deepseek_r1: () => import('./think.ts'),
  qwen3: () => import('./think.ts'),
});

/** The format that a chat template shows; undefined where its model does not reason, or not in a known way. */
export function reasoningFormatOf(chatTemplate: string | undefined): string | undefined {
  return chatTemplate?.includes('</think>') ? 'think' : undefined;
}
