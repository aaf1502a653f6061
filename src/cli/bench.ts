import { Command } from 'commander';
import { servingCommand } from './bench/serving.ts';

/** `nereid bench` */
export function createCommand(): Command {
  return new Command()
    .description('Benchmarks as the field runs them. Each has its own --help.')
    .addCommand(servingCommand());
}
