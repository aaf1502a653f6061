import { type LoraAdapter, openLora } from './lora.ts';
import { openLoraGguf } from './lora-gguf.ts';
import { isLoraNpy, type NpyLinear, openLoraNpy } from './lora-npy.ts';

/**
 * Opens an adapter in whatever format it is: a `.gguf`, a folder with the `.npy` files of TensorRT-LLM's converter, or a PEFT folder.
 * @param linears of the model, for formats that say no shapes
 * @throws CheckpointError
 */
export function openAdapter(path: string, linears?: readonly NpyLinear[]): LoraAdapter {
  if (path.endsWith('.gguf')) return openLoraGguf(path);
  return isLoraNpy(path) ? openLoraNpy(path, linears) : openLora(path);
}
