import { Command } from 'commander';
import { exitCodes } from './errors.ts';

const examples = `
Examples:
  nereid doctor
  nereid doctor --json
  nereid doctor --network       also try whether the Hugging Face hub answers

Exit status: 0 when this machine can run models, 1 when nothing can run.`;

/** `nereid doctor` */
export function createCommand(): Command {
  return new Command()
    .description('Checks what this machine can run, and says how to repair what it cannot.')
    .option('--json', 'print JSON')
    .option('--network', 'also try the network (the Hugging Face hub)')
    .addHelpText('after', examples)
    .action(async (options: { json?: boolean; network?: boolean }) => {
      const { examine, formatTable } = await import('./doctor-report.ts');
      const report = await examine({ network: options.network ?? false });
      if (options.json) console.log(JSON.stringify(report, undefined, 2));
      else console.log(formatTable(report));
      if (!report.canRun) process.exitCode = exitCodes.failure;
    });
}
