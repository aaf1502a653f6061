import { packageVersion } from '../../base/package-version.ts';
import type { RequestLogger } from '../../protocol/request-log.ts';
import { RequestSpans, spanTarget } from '../../protocol/request-spans.ts';

/** Where requests are traced, if OpenTelemetry's environment says so; what sends is loaded only then. */
export function requestSpans(env: NodeJS.ProcessEnv, logger: RequestLogger): RequestSpans | undefined {
  const target = spanTarget(env);
  if (!target) return undefined;
  const sender = import('../../protocol/otlp-sender.ts').then(({ otlpSender }) =>
    otlpSender(target, packageVersion()),
  );
  return new RequestSpans(async (spans) => (await sender)(spans), logger);
}
