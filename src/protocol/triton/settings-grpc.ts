import { RepositoryError } from '../../repository/errors.ts';
import type { PlainMessage } from '../proto-messages.ts';
import type { TritonContext } from './context.ts';
import { type LogSettings, logSwitches } from './settings.ts';
import { applyLogging, checkTracedModel } from './settings-http.ts';

/** `TraceSetting`: a setting without values is cleared. */
export function grpcTraceSettings(context: TritonContext, request: PlainMessage): PlainMessage {
  const modelName = String(request.model_name ?? '');
  checkTracedModel(modelName, (name) => context.repository.isModelReady(name));
  const settings = Object.entries((request.settings ?? {}) as Record<string, { value?: string[] }>);
  if (settings.length > 0) {
    const update = new Map(
      settings.map(([name, { value }]) => [name, value?.length ? value : null] as const),
    );
    context.traceSettings.update(modelName, update);
  }
  const shown = Object.entries(context.traceSettings.of(modelName)).map(([name, value]) => [name, { value }]);
  return { settings: Object.fromEntries(shown) };
}

/** `LogSettingsRequest.SettingValue` with protobufjs's mark of the field that is set. */
interface LogValue {
  parameter_choice?: string;
  bool_param?: boolean;
  uint32_param?: number;
  string_param?: string;
}

/** `LogSettings` */
export function grpcLogSettings(context: TritonContext, request: PlainMessage): PlainMessage {
  const settings = (request.settings ?? {}) as Record<string, LogValue>;
  if (Object.keys(settings).length > 0) applyLogging(context, parseLogging(context.logSettings, settings));
  const current = context.logSettings;
  return {
    settings: {
      log_file: { string_param: current.log_file },
      log_info: { bool_param: current.log_info },
      log_warning: { bool_param: current.log_warning },
      log_error: { bool_param: current.log_error },
      log_verbose_level: { uint32_param: current.log_verbose_level },
      log_format: { string_param: current.log_format },
    },
  };
}

function parseLogging(current: LogSettings, settings: Readonly<Record<string, LogValue>>): LogSettings {
  const next = { ...current };
  const refuse = (message: string): never => {
    throw new RepositoryError('INVALID_ARGUMENT', message);
  };
  if (settings.log_file) {
    const message = 'log file location can not be updated through network protocol';
    throw new RepositoryError('UNSUPPORTED', message);
  }
  for (const name of logSwitches) {
    const value = settings[name];
    if (!value) continue;
    if (value.parameter_choice !== 'bool_param') refuse(`expect boolean for '${name}'`);
    next[name] = value.bool_param === true;
  }
  const level = settings.log_verbose_level;
  if (level) {
    if (level.parameter_choice !== 'uint32_param') refuse("expect int32 for 'log_verbose_level'");
    next.log_verbose_level = level.uint32_param ?? 0;
  }
  const format = settings.log_format?.string_param;
  if (settings.log_format) {
    if (format !== 'default' && format !== 'ISO8601')
      refuse(`invalid argument for log_format, got: ${format ?? ''}`);
    else next.log_format = format;
  }
  return next;
}
