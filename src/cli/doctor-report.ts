import Table from 'cli-table3';
import { messageOf } from '../base/errors.ts';
import { type Check, hardwareChecks } from './doctor-hardware.ts';
import { modelChecks } from './doctor-models.ts';

/** What `nereid doctor --json` prints. */
export interface DoctorReport {
  /** Whether at least one real device can run models here. */
  canRun: boolean;
  checks: Check[];
}

/** Runs every check. A check that breaks is a failed row, never an exception. */
export async function examine(options: { network: boolean }): Promise<DoctorReport> {
  const checks: Check[] = [];
  for (const probe of [...hardwareChecks, ...modelChecks(options.network)]) {
    try {
      checks.push(await probe.run());
    } catch (thrown) {
      checks.push({
        name: probe.name,
        status: 'fail',
        value: messageOf(thrown),
        fix: 'run with --verbose and report it',
      });
    }
  }
  // The checks that nothing can run without: the rest only narrows what can.
  const needed = checks.filter((check) => check.needed);
  return { canRun: needed.every((check) => check.status !== 'fail'), checks };
}

const marks = { ok: 'ok', warn: 'warn', fail: 'FAIL' } as const;

/** The report as a table, with what to do below it. */
export function formatTable(report: DoctorReport): string {
  const table = new Table({
    head: ['check', '', 'found'],
    style: { head: [], border: [] },
    colWidths: [24, 6, 80],
    wordWrap: true,
  });
  for (const check of report.checks) table.push([check.name, marks[check.status], check.value]);
  const fixes = report.checks.filter((check) => check.fix !== undefined);
  const lines = fixes.map((check) => `${marks[check.status].padEnd(4)} ${check.name}: ${check.fix}`);
  const verdict = report.canRun ? 'This machine can run models.' : 'This machine cannot run models yet.';
  return [table.toString(), ...lines, verdict].join('\n');
}
