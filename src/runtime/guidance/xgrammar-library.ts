import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { compileFunction, constants } from 'node:vm';
import type * as XGrammar from '@mlc-ai/web-xgrammar';

/** xgrammar's WebAssembly build, loaded in this thread. */
export interface GrammarLibrary {
  library: typeof XGrammar;
  /** What it printed since the last call: it says why it refuses a grammar on the console, and then aborts. */
  takeMessages(): string[];
  /** Bytes of its memory, which never shrinks. */
  memoryBytes(): number;
}

/**
 * Loads xgrammar. Its bundle is CommonJS under a package.json that says it is a module, so that neither `import` nor `require` takes it: it is
 * compiled as the function that CommonJS is. Changes this thread's console, so it wants a thread of its own.
 */
export function loadXGrammar(): GrammarLibrary {
  const messages: string[] = [];
  const print = (...parts: unknown[]): void => {
    messages.push(parts.map(String).join(' '));
  };
  Object.assign(console, { error: print, warn: print, log: print });
  const memory = watchMemory();
  const require = createRequire(import.meta.url);
  const path = require.resolve('@mlc-ai/web-xgrammar');
  const module = { exports: {} };
  const names = ['exports', 'require', 'module', '__filename', '__dirname'];
  const run = compileFunction(readFileSync(path, 'utf8'), names, {
    filename: path,
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
  run(module.exports, require, module, path, dirname(path));
  return {
    library: module.exports as typeof XGrammar,
    takeMessages: () => messages.splice(0),
    memoryBytes: () => memory.bytes(),
  };
}

/** The library keeps its memory to itself; it can be seen when it is made. */
function watchMemory(): { bytes(): number } {
  const { WebAssembly: wasm } = globalThis as unknown as { WebAssembly: WasmNamespace };
  let memory: WasmMemory | undefined;
  const { instantiate } = wasm;
  wasm.instantiate = async (...given) => {
    const made = await instantiate(...given);
    const { exports } = 'instance' in made ? made.instance : made;
    for (const each of Object.values(exports)) if (each instanceof wasm.Memory) memory = each;
    return made;
  };
  return { bytes: () => memory?.buffer.byteLength ?? 0 };
}

interface WasmMemory {
  readonly buffer: ArrayBuffer;
}

interface WasmInstance {
  readonly exports: Record<string, unknown>;
}

/** The part of the global that is used; Node's types leave it to the browser's. */
interface WasmNamespace {
  instantiate(...given: unknown[]): Promise<WasmInstance | { instance: WasmInstance }>;
  Memory: new (...given: unknown[]) => WasmMemory;
}
