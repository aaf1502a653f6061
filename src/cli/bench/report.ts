import { Command } from 'commander';

const examples = `
Examples:
  nereid bench report run.json --html run.html
  nereid bench report before.json after.json                  side by side, with ratios
  nereid bench report run.json --trace trace.bin --html run.html`;

/** `nereid bench report` */
export function reportCommand(): Command {
  return new Command('report')
    .description('Compares result files, and makes one self-contained HTML file of them.')
    .argument('<results...>', 'files that nereid load or nereid bench wrote with -o')
    .option('--html <file>', 'write a report with plots, readable offline')
    .option('--trace <file>', "a trace of the server's, for the report's step breakdown")
    .addHelpText('after', examples)
    .action(async (paths: string[], flags: { html?: string; trace?: string }) => {
      const { runReport } = await import('./report-run.ts');
      runReport(paths, flags);
    });
}
