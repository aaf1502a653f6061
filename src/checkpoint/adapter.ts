import { type LoraAdapter, openLora } from './lora.ts';

/**
 * Opens an adapter in whatever format it is: a PEFT folder.
 * @throws CheckpointError
 */
export function openAdapter(path: string): LoraAdapter {
  return openLora(path);
}
