import { sequencesPerRequestMax } from '../../base/limits.ts';
import { isGuide } from '../guidance/guide.ts';
import type { DraftTokens, GenerationRequest } from '../requests/request.ts';
import type {
  AdapterCommand,
  AdaptersMessage,
  CommandMessage,
  EngineMessage,
  HelloMessage,
  PrefixesMessage,
  StepMessage,
} from './messages.ts';

/**
 * Whether what came over a socket has the shape of a message. Both ends are the same build, so one without it is from a stranger or a bug:
 * the connection ends. Values inside a well-shaped request are `validateRequest`'s.
 */
export function isCommandMessage(value: unknown): value is CommandMessage {
  if (!isRecord(value)) return false;
  const { submits, cancels, watchPrefixes, releaseRetained, ...rest } = value as Partial<CommandMessage>;
  const { adapters, outputsRead } = rest;
  return (
    Array.isArray(submits) &&
    submits.every(isRequest) &&
    Array.isArray(cancels) &&
    cancels.every(isCancel) &&
    [watchPrefixes, releaseRetained].every((flag) => flag === undefined || typeof flag === 'boolean') &&
    (adapters === undefined || (Array.isArray(adapters) && adapters.every(isAdapterCommand))) &&
    (outputsRead === undefined || isNumbers(outputsRead))
  );
}

/** As {@link isCommandMessage}, of what an engine says. */
export function isEngineMessage(value: unknown): value is EngineMessage {
  if (!isRecord(value)) return false;
  const message = value as Partial<EngineMessage>;
  if (message.kind === 'step') return isStep(message);
  if (message.kind === 'prefixes') return isPrefixes(message);
  if (message.kind === 'adapters') return isAdapters(message);
  return message.kind === 'hello' && isHello(message);
}

function isRequest(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const request = value as Partial<GenerationRequest>;
  const { sampling, sequences } = request;
  return (
    isIndex(request.id) &&
    request.promptTokens instanceof Int32Array &&
    isRecord(sampling) &&
    isIndex(sequences) &&
    sequences >= 1 &&
    sequences <= sequencesPerRequestMax &&
    isNumbers(request.stopTokenIds) &&
    (request.guide === undefined || isGuide(request.guide)) &&
    (request.cacheSalt === undefined || typeof request.cacheSalt === 'string') &&
    (request.adapter === undefined || isAdapter(request.adapter)) &&
    isRetention(request.retention) &&
    isBias((sampling as { logitBias?: unknown }).logitBias) &&
    (request.prediction === undefined || request.prediction instanceof Int32Array) &&
    (request.beams === undefined || isRecord(request.beams)) &&
    (request.draft === undefined || isDraft(request.draft)) &&
    (request.speculation === undefined || isSpeculation(request.speculation)) &&
    (request.returns === undefined || isRecord(request.returns)) &&
    isBans(sampling)
  );
}

function isBans({ embeddingBias, allowedTokens, badWords, topPDecay }: Record<string, unknown>): boolean {
  return (
    (embeddingBias === undefined || embeddingBias instanceof Float32Array) &&
    (allowedTokens === undefined || allowedTokens instanceof Int32Array) &&
    (badWords === undefined || (Array.isArray(badWords) && badWords.every(isNumbers))) &&
    (topPDecay === undefined || isRecord(topPDecay))
  );
}

function isAdapter(value: unknown): boolean {
  if (!isRecord(value)) return false;
  return typeof value.name === 'string' && typeof value.digest === 'string';
}

function isRetention(value: unknown): boolean {
  if (value === undefined) return true;
  if (!isRecord(value)) return false;
  const { ranges, decode } = value as { ranges?: unknown; decode?: unknown };
  return Array.isArray(ranges) && ranges.every(isRecord) && (decode === undefined || isRecord(decode));
}

function isSpeculation(value: unknown): boolean {
  return isRecord(value) && (value.lookup === undefined || isRecord(value.lookup));
}

function isDraft(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { tokens, logits, threshold } = value as Partial<DraftTokens>;
  const isRule = threshold === undefined || typeof threshold === 'number';
  return isRule && tokens instanceof Int32Array && (logits === undefined || logits instanceof Float32Array);
}

function isBias(value: unknown): boolean {
  if (value === undefined) return true;
  return Array.isArray(value) && value.every((pair) => isNumbers(pair) && pair.length === 2);
}

function isCancel(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { id, sequence } = value as { id?: unknown; sequence?: unknown };
  return isIndex(id) && (sequence === undefined || isIndex(sequence));
}

function isHello(message: Partial<HelloMessage>): boolean {
  const { adapters } = message;
  const areRight = adapters === undefined || (Array.isArray(adapters) && adapters.every(isAdapter));
  return (
    areRight &&
    isIndex(message.firstRequestId) &&
    isRecord(message.description) &&
    isFigures(message.statistics)
  );
}

function isAdapterCommand(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { number, load, unload } = value as Partial<AdapterCommand>;
  if (load === undefined) return isIndex(number) && typeof unload === 'string';
  return isIndex(number) && isRecord(load) && typeof load.name === 'string' && typeof load.path === 'string';
}

function isAdapters({ list, reply }: Partial<AdaptersMessage>): boolean {
  const isReply = reply === undefined || (isRecord(reply) && isIndex(reply.number));
  return isReply && Array.isArray(list) && list.every(isAdapter);
}

function isStep({
  requestIds,
  sequences,
  tokenCounts,
  tokens,
  extras,
  statistics,
}: Partial<StepMessage>): boolean {
  if (!(requestIds instanceof Float64Array && sequences instanceof Uint16Array)) return false;
  if (!(tokenCounts instanceof Uint16Array && tokens instanceof Int32Array && Array.isArray(extras)))
    return false;
  const count = requestIds.length;
  if (sequences.length !== count || tokenCounts.length !== count) return false;
  let sum = 0;
  for (let index = 0; index < count; index++) sum += tokenCounts[index] as number;
  const isExtra = (entry: unknown): boolean =>
    Array.isArray(entry) && isIndex(entry[0]) && entry[0] < count && isRecord(entry[1]);
  return (
    sum === tokens.length && extras.every(isExtra) && (statistics === undefined || isFigures(statistics))
  );
}

function isPrefixes({ isSnapshot, stored, removed }: Partial<PrefixesMessage>): boolean {
  return typeof isSnapshot === 'boolean' && stored instanceof Float64Array && removed instanceof Float64Array;
}

function isFigures(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { acceptedDraftsByPlace: drafts = [], adapters, ...figures } = value;
  const areNumbers = Object.values(figures).every((figure) => typeof figure === 'number');
  return areNumbers && isNumbers(drafts) && (adapters === undefined || isAdapterUse(adapters));
}

function isAdapterUse(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const isNames = (names: unknown) => Array.isArray(names) && names.every((name) => typeof name === 'string');
  return isNames(value.running) && isNames(value.waiting) && isIndex(value.slots);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function isIndex(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((entry) => typeof entry === 'number');
}
