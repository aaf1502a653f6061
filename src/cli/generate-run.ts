import { promptBytesMax } from '../base/limits.ts';
import { silentReporter } from '../builder/reporter.ts';
import { Engine, type GenerateOptions, type GenerationStream } from '../engine.ts';
import { threadTracer } from '../trace/process-tracer.ts';
import { CliError } from './errors.ts';
import type { GenerateFlags } from './generate-flags.ts';
import { createProgress } from './progress.ts';

/** Does what `nereid generate` was told: the library's {@link Engine} in this process, one request, its text on stdout. */
export async function runGenerate(model: string, flags: GenerateFlags, signal: AbortSignal): Promise<void> {
  const reporter = flags.quiet ? silentReporter : createProgress();
  threadTracer.start('generate', true);
  const prompt = flags.prompt ?? (await readStandardInput());
  const { device, threads, contextLength, kvDtype } = flags;
  const engine = await Engine.open(model, {
    isolation: 'none',
    device,
    deviceOptions: flags.deviceOption,
    threads,
    contextLength,
    kvDtype,
    maxSequences: 1,
    prefixReuse: false,
    reporter,
    signal,
  });
  try {
    const startMs = performance.now();
    const stream = startGeneration(engine, prompt, flags, signal);
    const line = await print(stream, startMs);
    if (!flags.quiet) process.stderr.write(`${line}\n`);
  } finally {
    await engine.close();
  }
}

async function readStandardInput(): Promise<string> {
  if (process.stdin.isTTY) {
    throw new CliError('CLI_ARGUMENT_MISSING', 'no prompt: pass --prompt "…", or pipe the text in');
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > promptBytesMax) {
      throw new CliError(
        'CLI_VALUE_INVALID',
        `the prompt is longer than ${promptBytesMax} bytes; shorten it`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8').trimEnd();
}

function startGeneration(
  engine: Engine,
  prompt: string,
  flags: GenerateFlags,
  signal: AbortSignal,
): GenerationStream {
  const { maxTokens, temperature, topK, topP, minP, repetitionPenalty, seed } = flags;
  const options: GenerateOptions = {
    maxTokens,
    temperature,
    topK,
    topP,
    minP,
    repetitionPenalty,
    seed,
    signal,
  };
  if (flags.raw) return engine.generate(prompt, options);
  if (engine.model.chatTemplate === undefined) {
    const fix = 'this model was not made for chats: pass --raw to continue the prompt as it is';
    throw new CliError('CLI_ARGUMENT_INVALID', `the model has no chat template; ${fix}`, { usage: false });
  }
  const system = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
  return engine.chat([...system, { role: 'user', content: prompt }], options);
}

/** Streams the answer to stdout; Ctrl-C ends it where it is. Returns the line of figures for stderr. */
async function print(stream: GenerationStream, startMs: number): Promise<string> {
  let firstMs = 0;
  try {
    for await (const { text } of stream) {
      firstMs ||= performance.now();
      process.stdout.write(text);
    }
  } finally {
    process.stdout.write('\n');
  }
  const { promptTokens = 0, completionTokens = 0 } = stream.usage ?? {};
  const decodeSeconds = (performance.now() - firstMs) / 1000;
  const isTimed = completionTokens > 1 && decodeSeconds > 0;
  const rate = isTimed ? `, then ${((completionTokens - 1) / decodeSeconds).toFixed(1)} tokens/s` : '';
  const firstSeconds = ((firstMs - startMs) / 1000).toFixed(2);
  return `[${promptTokens} prompt tokens, first token after ${firstSeconds} s, ${completionTokens} tokens${rate}]`;
}
