import { ensureEngine } from '../artifact/resolver.ts';
import { definite, NereidError } from '../base/errors.ts';
import { promptBytesMax } from '../base/limits.ts';
import { openEngine } from '../builder/open-engine.ts';
import { silentReporter } from '../builder/reporter.ts';
import { devices } from '../device/registry.ts';
import { generationDefaults } from '../protocol/generation-defaults.ts';
import { LocalEngine } from '../runtime/local-engine.ts';
import { greedySampling, type SamplingParameters, type SequenceEvent } from '../runtime/types.ts';
import { renderChat } from '../tokenizer/chat-template.ts';
import { openTokenizer } from '../tokenizer/open.ts';
import type { Tokenizer } from '../tokenizer/types.ts';
import { CliError } from './errors.ts';
import type { GenerateFlags } from './generate.ts';
import { createProgress } from './progress.ts';

/** Rows of one step: long prompts go through in chunks of it. */
const batchTokensMax = 512;

/** What a generation took, for the line on stderr. */
interface Timing {
  promptTokens: number;
  tokens: number;
  startMs: number;
  firstMs: number;
  lastMs: number;
}

/** Does what `nereid generate` was told. */
export async function runGenerate(model: string, flags: GenerateFlags, signal: AbortSignal): Promise<void> {
  const reporter = flags.quiet ? silentReporter : createProgress();
  const prompt = flags.prompt ?? (await readStandardInput());
  const deviceModule = await devices.load(flags.device);
  const { folder, name } = await ensureEngine(model, { reporter, signal, threads: flags.threads });
  const engine = await openEngine(folder);
  const tokenizer = await openTokenizer(definite(engine.tokenizerFolder, 'the tokenizer folder'));
  const promptTokens = encodePrompt(tokenizer, prompt, flags);
  const sampling = await samplingOf(flags, definite(engine.tokenizerFolder, 'the tokenizer folder'));
  const contextLength = Math.min(
    engine.source.contextLength,
    flags.contextLength ?? engine.source.contextLength,
  );
  const device = await deviceModule.openDevice(flags.deviceOption ?? {});
  const kvDtype = flags.kvDtype ?? engine.manifest?.kvDtype ?? 'f16';
  const { threads } = flags;
  const loaded = await device.load(
    { ...engine.source, contextLength },
    { slots: 1, batchTokensMax, kvDtype, threads },
  );
  const { vocabularySize } = engine.source;
  const kvBytesMax = Math.max(1, contextLength * loaded.kvBytesPerPosition);
  const options = {
    name,
    device: flags.device,
    vocabularySize,
    contextLength,
    slots: 1,
    batchTokensMax,
    kvBytesMax,
  };
  const local = new LocalEngine(loaded, { ...options, prefixReuse: false });
  try {
    const request = requestOf(promptTokens, sampling, flags, tokenizer, contextLength);
    const timing = await generate(local, request, tokenizer, signal);
    if (!flags.quiet) process.stderr.write(`${timingLine(timing)}\n`);
  } finally {
    await local.close();
    loaded.close();
    device.close();
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

function encodePrompt(tokenizer: Tokenizer, prompt: string, flags: GenerateFlags): Int32Array {
  if (flags.raw) return tokenizer.encode(prompt);
  if (tokenizer.chatTemplate === undefined) {
    const fix = 'this model was not made for chats: pass --raw to continue the prompt as it is';
    throw new CliError('CLI_ARGUMENT_INVALID', `the model has no chat template; ${fix}`, { usage: false });
  }
  const system = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
  const text = renderChat(tokenizer.chatTemplate, {
    messages: [...system, { role: 'user', content: prompt }],
    addGenerationPrompt: true,
    bosToken: tokenizer.bosTokenId === undefined ? undefined : tokenizer.token(tokenizer.bosTokenId),
    eosToken: tokenizer.eosTokenId === undefined ? undefined : tokenizer.token(tokenizer.eosTokenId),
  });
  return tokenizer.encode(text, { addSpecialTokens: false });
}

/** Flags first, then the model's own advice, then plain sampling at temperature 1. */
async function samplingOf(flags: GenerateFlags, folder: string): Promise<SamplingParameters> {
  const advice = await generationDefaults(folder);
  return {
    ...greedySampling,
    temperature: flags.temperature ?? advice.temperature ?? 1,
    topK: flags.topK ?? advice.topK ?? 0,
    topP: flags.topP ?? advice.topP ?? 1,
    minP: flags.minP ?? advice.minP ?? 0,
    repetitionPenalty: flags.repetitionPenalty ?? advice.repetitionPenalty ?? 1,
    seed: flags.seed,
  };
}

type Request = Parameters<LocalEngine['submit']>[0];

function requestOf(
  promptTokens: Int32Array,
  sampling: SamplingParameters,
  flags: GenerateFlags,
  tokenizer: Tokenizer,
  contextLength: number,
): Request {
  if (promptTokens.length === 0) {
    throw new CliError('CLI_VALUE_INVALID', 'the prompt is empty; pass some text with --prompt');
  }
  const room = contextLength - promptTokens.length;
  if (room < 1) {
    const problem = `the prompt has ${promptTokens.length} tokens; this model's context holds ${contextLength}`;
    throw new CliError('CLI_VALUE_INVALID', `${problem} with the answer: shorten the prompt`);
  }
  const maxTokens = Math.min(flags.maxTokens, room);
  const rest = { minTokens: 0, stopTokenIds: tokenizer.stopTokenIds, sequences: 1, priority: 0 };
  return { promptTokens, sampling, maxTokens, ...rest };
}

/** Streams the answer to stdout. Ctrl-C ends it where it is. */
function generate(
  engine: LocalEngine,
  request: Request,
  tokenizer: Tokenizer,
  signal: AbortSignal,
): Promise<Timing> {
  const decoder = tokenizer.incrementalDecoder({ continuation: true });
  const startMs = performance.now();
  const timing: Timing = {
    promptTokens: request.promptTokens.length,
    tokens: 0,
    startMs,
    firstMs: 0,
    lastMs: 0,
  };
  return new Promise((resolve, reject) => {
    const onEvent = (event: SequenceEvent) => {
      timing.lastMs = performance.now();
      if (timing.tokens === 0) timing.firstMs = timing.lastMs;
      timing.tokens += event.tokens.length;
      const shown = event.tokens.filter((id) => !tokenizer.stopTokenIds.includes(id));
      process.stdout.write(shown.map((id) => decoder.push(id)).join(''));
      if (!event.finish) return;
      process.stdout.write(`${decoder.flush()}\n`);
      if (event.finish === 'cancelled') reject(signal.reason);
      else if (event.error) reject(new NereidError(event.error.code, 'internal', event.error.message));
      else resolve(timing);
    };
    const handle = engine.submit(request, onEvent);
    signal.addEventListener('abort', () => handle.cancel(), { once: true });
  });
}

function timingLine({ promptTokens, tokens, startMs, firstMs, lastMs }: Timing): string {
  const firstSeconds = (firstMs - startMs) / 1000;
  const decodeSeconds = (lastMs - firstMs) / 1000;
  const rate =
    tokens > 1 && decodeSeconds > 0 ? `, then ${((tokens - 1) / decodeSeconds).toFixed(1)} tokens/s` : '';
  return `[${promptTokens} prompt tokens, first token after ${firstSeconds.toFixed(2)} s, ${tokens} tokens${rate}]`;
}
