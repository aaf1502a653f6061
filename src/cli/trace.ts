import { Command } from 'commander';

const examples = `
Examples:
  NEREID_TRACER_OUT=/tmp/trace.bin nereid serve     record; stop the server, or read while it runs
  nereid trace to-csv /tmp/trace.bin trace.csv      StepId,Timestamp,RequestId,ThreadId
  nereid trace to-perfetto /tmp/trace.bin run.json  open it at ui.perfetto.dev
  nereid trace summary /tmp/trace.bin               where the time went, and the slowest steps

BRITON_TRACER_OUT is understood too. See docs/tracing.md`;

/** `nereid trace` */
export function createCommand(): Command {
  const command = new Command().description('Reads what the tracer recorded.').addHelpText('after', examples);
  command
    .command('to-csv')
    .description("One event a line, as Briton's trace_to_csv writes it.")
    .argument('<trace>', 'the recorded file')
    .argument('[output]', 'file to write; - is stdout', '-')
    .action(async (trace: string, output: string) => {
      const { convertToCsv } = await import('./trace-run.ts');
      convertToCsv(trace, output);
    });
  command
    .command('to-perfetto')
    .description('JSON for ui.perfetto.dev (Trace Event Format).')
    .argument('<trace>', 'the recorded file')
    .argument('[output]', 'file to write; - is stdout', '-')
    .action(async (trace: string, output: string) => {
      const { convertToPerfetto } = await import('./trace-run.ts');
      convertToPerfetto(trace, output);
    });
  command
    .command('summary')
    .description('Where the time went, and the ten slowest steps.')
    .argument('<trace>', 'the recorded file')
    .option('--json', 'as JSON')
    .action(async (trace: string, { json }: { json?: boolean }) => {
      const { printSummary } = await import('./trace-run.ts');
      printSummary(trace, json === true);
    });
  return command;
}
