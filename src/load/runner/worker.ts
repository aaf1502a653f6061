/** A process that makes one share of a load; see `worker-group.ts` for the other side. */
import { messageOf, NereidError } from '../../base/errors.ts';
import type { RequestRecord } from '../record.ts';
import type { WorkerCommand, WorkerReport } from './messages.ts';
import { type LoadShare, openShare } from './share.ts';

/** Records travel in batches: one message a record would cost as much as a request. */
const reportIntervalMs = 100;

let share: LoadShare | undefined;
let waiting: RequestRecord[] = [];

function send(report: WorkerReport): void {
  if (process.connected) process.send?.(report);
}

function sendRecords(): void {
  if (waiting.length === 0) return;
  send({ kind: 'records', records: waiting });
  waiting = [];
}

async function run(startMs: number): Promise<void> {
  if (!share) return;
  const timer = setInterval(sendRecords, reportIntervalMs);
  await share.run(startMs, (record) => waiting.push(record));
  clearInterval(timer);
  sendRecords();
  send({ kind: 'done', cpu: share.cpu() });
  share.close();
}

function fail(thrown: unknown): void {
  const code = thrown instanceof NereidError ? thrown.code : 'LOAD_WORKER_FAILED';
  send({ kind: 'failed', code, message: messageOf(thrown) });
}

async function obey(command: WorkerCommand): Promise<void> {
  if (command.kind === 'open') {
    share = await openShare(command.plan, command.worker);
    send({ kind: 'ready' });
  } else if (command.kind === 'run') await run(command.startMs);
  else if (command.kind === 'finish') share?.finish();
  else share?.stop();
}

// Ctrl-C reaches the whole foreground group; the parent tells us what it means.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
process.on('disconnect', () => process.exit(0));
process.on('message', (command: WorkerCommand) => {
  obey(command).catch(fail);
});
send({ kind: 'online' });
