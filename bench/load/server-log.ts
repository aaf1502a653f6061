import { phases } from '../../src/trace/phases.ts';
import { TraceFile } from '../../src/trace/reader.ts';

/** Milliseconds of each request, as one log of the server has them. */
export interface LoggedLatencies {
  ttft: number[];
  tpot: number[];
}

/** The server's own per-request event logs: as its engine saw the requests, and as its front end did. */
export interface ServerLog {
  /** QUEUE_start → PREFILL_end; DECODE over the tokens after the first. */
  engine: LoggedLatencies;
  /** REQUEST_start → first SEND_RESPONSE_start; from there to the last one over the tokens after the first. */
  server: LoggedLatencies;
}

interface RequestTimes {
  arrived: number;
  firstSent: number;
  lastSent: number;
  queued: number;
  first: number;
  end: number;
}

/** Reads the last `requests` requests of a trace, each of `tokens` tokens (what came before was warming up). */
export function readServerLog(path: string, requests: number, tokens: number): ServerLog {
  const byId = new Map<number, RequestTimes>();
  const trace = new TraceFile(path);
  for (const { phase, isEnd, request, atNs } of trace.events()) {
    if (request < 0) continue;
    let times = byId.get(request);
    if (!times) {
      times = { arrived: 0, firstSent: 0, lastSent: 0, queued: 0, first: 0, end: 0 };
      byId.set(request, times);
    }
    if (phase === phases.request && !isEnd) times.arrived = atNs;
    else if (phase === phases.queue && !isEnd) times.queued = atNs;
    else if (phase === phases.prefill && isEnd) times.first = atNs;
    else if (phase === phases.decode && isEnd) times.end = atNs;
    else if (phase === phases.sendResponse && !isEnd) {
      times.firstSent ||= atNs;
      times.lastSent = atNs;
    }
  }
  trace.close();
  const measured = [...byId]
    .sort((a, b) => a[0] - b[0])
    .slice(-requests)
    .map(([, times]) => times);
  const gaps = 1e6 * (tokens - 1);
  return {
    engine: {
      ttft: measured.map(({ queued, first }) => (first - queued) / 1e6),
      tpot: measured.map(({ first, end }) => (end - first) / gaps),
    },
    server: {
      ttft: measured.map(({ arrived, firstSent }) => (firstSent - arrived) / 1e6),
      tpot: measured.map(({ firstSent, lastSent }) => (lastSent - firstSent) / gaps),
    },
  };
}
