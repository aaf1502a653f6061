import { Command } from 'commander';
import { coreCommand } from './bench/core.ts';
import { endToEndCommand } from './bench/e2e.ts';
import { identityCommand } from './bench/identity.ts';
import { reportCommand } from './bench/report.ts';
import { servingCommand } from './bench/serving.ts';
import { sweepCommand } from './bench/sweep.ts';

/** `nereid bench` */
export function createCommand(): Command {
  return new Command()
    .description('Benchmarks as the field runs them. Each has its own --help.')
    .addCommand(servingCommand())
    .addCommand(sweepCommand())
    .addCommand(coreCommand())
    .addCommand(endToEndCommand())
    .addCommand(identityCommand())
    .addCommand(reportCommand());
}
