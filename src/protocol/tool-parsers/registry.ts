import { Registry } from '../../base/registry.ts';
import type { ToolFormat } from './format.ts';

/** Formats by vLLM's names (`--tool-call-parser`). */
export const toolFormats = new Registry<{ format: ToolFormat }>('tool-call parser', {
  hermes: () => import('./hermes.ts'),
  llama3_json: () => import('./llama3-json.ts'),
  pythonic: () => import('./pythonic.ts'),
  mistral: () => import('./mistral.ts'),
  qwen3_coder: () => import('./qwen3-coder.ts'),
  deepseek_v3: () => import('./deepseek.ts'),
});

/** What in a chat template tells which format its model was trained on. In this order: later ones also occur in templates of earlier ones. */
const signs: readonly (readonly [sign: RegExp, name: string])[] = [
  [/<｜tool▁calls▁begin｜>/, 'deepseek_v3'],
  [/\[TOOL_CALLS\]/, 'mistral'],
  [/<function=/, 'qwen3_coder'],
  [/<tool_call>/, 'hermes'],
  [/func_name1\(params_name1/, 'pythonic'],
  [/<\|python_tag\|>|"parameters": dictionary of argument name/, 'llama3_json'],
];

/** The format that a chat template asks its model for; undefined where it shows none that is known. */
export function toolFormatOf(chatTemplate: string | undefined): string | undefined {
  return signs.find(([sign]) => sign.test(chatTemplate ?? ''))?.[1];
}
