import type { EngineManifest } from '../../builder/manifest.ts';
import type { Parallelism } from '../../models/partition.ts';
import { parseAddress } from '../../runtime/ranks/address.ts';
import type { RankSeat } from '../../runtime/ranks/seat.ts';
import { CliError } from '../errors.ts';
import type { ServeOptions } from './options.ts';

/** What the ranks of a group on several hosts know of each other, and nobody else: never on a command line, where all users see it. */
const secretVariable = 'NEREID_RANK_SECRET';
const secretLengthMin = 16;

/** How an engine is divided. */
export function parallelismOf({ parts }: EngineManifest): Parallelism {
  const [part] = parts ?? [];
  return { tensor: part?.tensorRanks ?? 1, pipeline: part?.stages ?? 1 };
}

/** What an engine is built with, where it has to be. */
export function rankRecipe({ tensorParallel, pipelineParallel }: ServeOptions) {
  return { tensorParallel: tensorParallel ?? 1, pipelineParallel: pipelineParallel ?? 1 };
}

/**
 * Checks that an engine is divided as asked, and that this machine and these options can run it so.
 * @throws CliError with the flag to change
 */
export function checkRanks(options: ServeOptions, name: string, { tensor, pipeline }: Parallelism): void {
  const { tensorParallel = tensor, pipelineParallel = pipeline, worldSize } = options;
  if (tensorParallel !== tensor || pipelineParallel !== pipeline) {
    const problem = `${name} is built for ${tensor} tensor ranks × ${pipeline} stages, not ${tensorParallel} × ${pipelineParallel}`;
    throw invalid(`${problem}; build it with these flags, or leave them out`);
  }
  const ranks = tensor * pipeline;
  if (worldSize !== undefined && worldSize !== ranks)
    throw invalid(
      `--world-size ${worldSize} is not ${tensor} tensor ranks × ${pipeline} stages; give ${ranks}`,
    );
}

/** Checks the flags of a group on several hosts, before anything is built. @throws CliError */
export function checkWorld({ worldSize, rank, leader, models, engines }: ServeOptions): void {
  if (worldSize === undefined) {
    if (rank === undefined && leader === undefined) return;
    throw invalid('--rank and --leader belong to a group on several hosts; give --world-size, too');
  }
  if (rank === undefined || leader === undefined)
    throw invalid('--world-size needs --rank (of this host) and --leader host:port (of rank 0)');
  if (rank >= worldSize)
    throw invalid(`--rank ${rank} is not below --world-size ${worldSize}; ranks count from 0`);
  if (models.length > 1 || engines > 1)
    throw invalid(
      'a group on several hosts serves one model with one engine; start another group for another',
    );
  parseAddress(leader);
  secret();
}

/** This process's place in a group on several hosts; undefined for one that lies on this host. */
export function seatOf(
  { worldSize, rank, leader }: ServeOptions,
  parallelism: Parallelism,
): RankSeat | undefined {
  if (worldSize === undefined || rank === undefined || leader === undefined) return undefined;
  return { rank, parallelism, leader: parseAddress(leader), secret: secret() };
}

function secret(): string {
  const value = process.env[secretVariable] ?? '';
  if (value.length >= secretLengthMin) return value;
  const fix = `set ${secretVariable} to the same ${secretLengthMin} or more random characters on every host`;
  throw new CliError('CLI_ARGUMENT_MISSING', `ranks on several hosts know each other by a secret; ${fix}`);
}

function invalid(message: string): CliError {
  return new CliError('CLI_VALUE_INVALID', message);
}

/** Ranks of one engine that this host runs. */
export function ranksHere({ worldSize }: ServeOptions, { tensor, pipeline }: Parallelism): number {
  return worldSize === undefined ? tensor * pipeline : 1;
}
