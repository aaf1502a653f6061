import type { RequestRecord } from '../record.ts';
import type { ClientCpu, LoadPlan } from './plan.ts';

/** To a load worker. */
export type WorkerCommand =
  | { kind: 'open'; plan: LoadPlan; worker: number }
  | { kind: 'run'; startMs: number }
  /** Start no more sessions. */
  | { kind: 'finish' }
  /** End everything now. */
  | { kind: 'stop' };

/** From a load worker. */
export type WorkerReport =
  | { kind: 'online' }
  | { kind: 'ready' }
  | { kind: 'records'; records: RequestRecord[] }
  | { kind: 'done'; cpu: ClientCpu }
  | { kind: 'failed'; code: string; message: string };
