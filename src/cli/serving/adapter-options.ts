import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { loraRankMax } from '../../checkpoint/lora-config.ts';
import { type AdapterSource, adapterSettingsDefault } from '../../runtime/adapters/adapter.ts';
import { adapterName, adapterNameRule } from '../../runtime/requests/validate.ts';
import { integerOption, sizeOption } from '../values.ts';
import type { ServeOptions } from './options.ts';

/** Adapters that one batch may hold: a device keeps their matrices side by side. */
const slotsMax = 256;

/** The options about LoRA adapters; vLLM's names for them are taken as well. */
export function addAdapterOptions(command: Command): void {
  const { slots, rankMax } = adapterSettingsDefault;
  const host = 'host memory for LoRA adapters, the least recently used leave first (default: 1 GiB)';
  const device =
    'memory of the device for them (default: what --max-loras adapters of rank 16 over all linears take)';
  const ranks = integerOption(1, loraRankMax);
  command
    .option(
      '--lora <name=path>',
      'a LoRA adapter: a PEFT folder, .gguf or folder of .npy; repeatable',
      adapterOption,
      [],
    )
    .addOption(new Option('--lora-modules <name=path>').argParser(adapterOption).hideHelp())
    .option(
      '--allow-lora-updates',
      'load and unload adapters over HTTP, from any path of this machine',
      false,
    )
    .option('--max-loras <n>', 'different LoRA adapters in one batch', integerOption(1, slotsMax), slots)
    .option('--max-lora-rank <n>', 'largest rank of a LoRA adapter', ranks, rankMax)
    .option('--lora-host-cache-size <size>', host, sizeOption)
    .option('--lora-device-cache-size <size>', device, sizeOption);
}

/** What {@link addAdapterOptions} was given. */
export function adapterOptions(flags: Record<string, unknown>): ServeOptions['adapters'] {
  const given = flags as { lora: AdapterSource[]; loraModules?: AdapterSource[] };
  const { maxLoras, maxLoraRank } = flags as { maxLoras: number; maxLoraRank: number };
  const { loraHostCacheSize: hostBytes, loraDeviceCacheSize: deviceBytes } = flags as {
    loraHostCacheSize?: number;
    loraDeviceCacheSize?: number;
  };
  return {
    atStart: [...given.lora, ...(given.loraModules ?? [])],
    settings: {
      slots: maxLoras,
      rankMax: maxLoraRank,
      hostBytesMax: hostBytes ?? adapterSettingsDefault.hostBytesMax,
      ...(deviceBytes !== undefined && { deviceBytesMax: deviceBytes }),
    },
  };
}

/** Whether adapters may be loaded over HTTP: the flag, or vLLM's own switch. */
export function allowsLoraUpdates(flags: Record<string, unknown>, environment: NodeJS.ProcessEnv): boolean {
  const fromVllm = environment.VLLM_ALLOW_RUNTIME_LORA_UPDATING?.toLowerCase();
  return flags.allowLoraUpdates === true || fromVllm === 'true' || fromVllm === '1';
}

/** `name=path`, gathered. Paths are made whole here: engines run elsewhere. */
function adapterOption(text: string, before: AdapterSource[] = []): AdapterSource[] {
  const split = text.indexOf('=');
  const name = text.slice(0, Math.max(0, split));
  const path = text.slice(split + 1);
  if (!adapterName.test(name) || path === '') {
    throw new InvalidArgumentError(`It takes name=path; ${adapterNameRule}.`);
  }
  if (before.some((one) => one.name === name)) {
    throw new InvalidArgumentError(`Two adapters are called '${name}'; rename one.`);
  }
  return [...before, { name, path: resolve(path) }];
}
