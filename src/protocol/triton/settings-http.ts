import { RepositoryError } from '../../repository/errors.ts';
import type { TritonContext } from './context.ts';
import { type Json, parseJson } from './json-parser.ts';
import { asArray, asBoolean, asString, asUnsigned, membersOf } from './json-values.ts';
import { type HttpAnswer, jsonAnswer } from './responses.ts';
import type { RouteGroups, TritonExchange } from './routes.ts';
import { type LogSettings, logSwitches } from './settings.ts';

/** GET and POST /v2[/models/M]/trace/setting */
export function answerTraceSettings(
  { repository, traceSettings }: TritonContext,
  [, model]: RouteGroups,
  { method, body }: TritonExchange,
): HttpAnswer {
  checkTracedModel(model, (name) => repository.isModelReady(name));
  const modelName = model ?? '';
  if (method === 'POST') {
    const update = new Map<string, readonly string[] | null>();
    for (const [name, value] of membersOf(parseJson(body))) update.set(name, settingTexts(value));
    traceSettings.update(modelName, update, 'got:');
  }
  const shown = traceSettings.of(modelName);
  const { trace_level, ...others } = shown;
  return jsonAnswer({
    trace_level,
    ...Object.fromEntries(Object.entries(others).map(([name, values]) => [name, values[0]])),
  });
}

/** @throws RepositoryError INVALID_ARGUMENT for a model that is not served */
export function checkTracedModel(name: string | undefined, isKnown: (name: string) => boolean): void {
  if (!name || isKnown(name)) return;
  throw new RepositoryError('INVALID_ARGUMENT', `Request for unknown model : ${name}`);
}

function settingTexts(value: Json): readonly string[] | null {
  if (value === null) return null;
  return Array.isArray(value) ? asArray(value).map(asString) : [asString(value)];
}

/** GET and POST /v2/logging */
export function answerLogging(
  context: TritonContext,
  _groups: RouteGroups,
  { method, body }: TritonExchange,
): HttpAnswer {
  if (method === 'POST') applyLogging(context, parseLogging(context.logSettings, membersOf(parseJson(body))));
  return jsonAnswer(context.logSettings);
}

/** Sets the settings, and tells who writes the log. */
export function applyLogging(context: TritonContext, settings: LogSettings): void {
  context.logSettings = settings;
  context.options.applyLogSettings?.(settings);
}

function parseLogging(current: LogSettings, members: ReadonlyMap<string, Json>): LogSettings {
  const next = { ...current };
  if (members.has('log_file')) {
    const message = 'log file location can not be updated through network protocol';
    throw new RepositoryError('UNSUPPORTED', message);
  }
  for (const name of logSwitches) {
    const value = members.get(name);
    if (value !== undefined) next[name] = asBoolean(value);
  }
  const level = members.get('log_verbose_level');
  if (level !== undefined) next.log_verbose_level = Number(asUnsigned(level));
  const format = members.get('log_format');
  if (format !== undefined) {
    const text = asString(format);
    if (text !== 'default' && text !== 'ISO8601') {
      throw new RepositoryError('UNAVAILABLE', `invalid argument for --log_format, got: ${text}`);
    }
    next.log_format = text;
  }
  return next;
}
