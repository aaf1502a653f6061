import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { RuntimeError } from '../errors.ts';
import type { RankLink } from './rank-link.ts';

/** Raised with every change of what ranks say to each other. */
export const rankProtocolVersion = 1;

/** Who a rank is, and what all ranks of its group must agree on. */
export interface RankIdentity {
  rank: number;
  ranks: number;
  /** Known to the ranks of this group only. It never crosses the wire. */
  secret: string;
  /** Of the Nereid package. */
  version: string;
  /** SHA-256 of the engine's manifest: equal weights and divisions. */
  engine: string;
}

const text = z.string().max(200);
const challengeSchema = z.object({ protocol: z.int(), nonce: text });
const helloSchema = z.object({
  protocol: z.int(),
  version: text,
  engine: text,
  rank: z.int(),
  ranks: z.int(),
  nonce: text,
  proof: text,
});
const welcomeSchema = z.object({ rank: z.int(), proof: text });
const refusedSchema = z.object({ message: z.string().max(2000) });

type Hello = z.output<typeof helloSchema>;

function proofOf(secret: string, parts: readonly (string | number)[]): string {
  return createHmac('sha256', secret).update(JSON.stringify(parts)).digest('hex');
}

function isProof(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}

const helloProof = (secret: string, nonce: string, hello: Omit<Hello, 'proof'>): string =>
  proofOf(secret, ['hello', nonce, hello.nonce, hello.rank, hello.ranks, hello.version, hello.engine]);

/**
 * Says who we are to a rank that we connected to, and has it show that it knows the secret, too.
 * @throws RuntimeError `RANK_REFUSED` with the other rank's reason, `RANK_LOST`
 */
export async function introduce(link: RankLink, self: RankIdentity, expected: number): Promise<void> {
  const challenge = parsed(challengeSchema, await link.nextJson('challenge'));
  const { rank, ranks, version, engine, secret } = self;
  const nonce = randomBytes(16).toString('hex');
  const hello = { protocol: rankProtocolVersion, version, engine, rank, ranks, nonce };
  link.sendJson('hello', { ...hello, proof: helloProof(secret, challenge.nonce, hello) });
  const refusal = link.nextJson('refused').then((value) => {
    throw refusedError(parsed(refusedSchema, value).message);
  });
  // The link's end rejects whichever of the two is not awaited any more.
  refusal.catch(() => {});
  const welcome = parsed(welcomeSchema, await Promise.race([link.nextJson('welcome'), refusal]));
  if (welcome.rank !== expected || !isProof(welcome.proof, proofOf(secret, ['welcome', nonce, expected]))) {
    link.close();
    throw refusedError(`what answered for rank ${expected} does not know the group's secret`);
  }
  link.trust(expected);
}

/**
 * Checks a connection that came in, and welcomes it.
 * @param isWanted whether a rank may connect here, now
 * @returns its rank
 * @throws RuntimeError `RANK_REFUSED`: it was told why, and disconnected
 */
export async function welcome(
  link: RankLink,
  self: RankIdentity,
  isWanted: (rank: number) => boolean,
): Promise<number> {
  const nonce = randomBytes(16).toString('hex');
  link.sendJson('challenge', { protocol: rankProtocolVersion, nonce });
  const hello = parsed(helloSchema, await link.nextJson('hello'));
  const problem = problemOf(hello, self, nonce, isWanted);
  if (problem !== undefined) {
    link.sendJson('refused', { message: problem });
    link.close(problem);
    throw refusedError(problem);
  }
  link.trust(hello.rank);
  link.sendJson('welcome', {
    rank: self.rank,
    proof: proofOf(self.secret, ['welcome', hello.nonce, self.rank]),
  });
  return hello.rank;
}

function problemOf(
  hello: Hello,
  self: RankIdentity,
  nonce: string,
  isWanted: (rank: number) => boolean,
): string | undefined {
  const { rank, ranks } = hello;
  if (hello.protocol !== rankProtocolVersion)
    return `rank ${rank} speaks rank protocol ${hello.protocol}, not ${rankProtocolVersion}; run the same Nereid everywhere`;
  // First of all: who does not know the secret learns nothing else.
  if (!isProof(hello.proof, helloProof(self.secret, nonce, hello)))
    return `what wants to be rank ${rank} does not know the group's secret; set the same NEREID_RANK_SECRET everywhere`;
  if (hello.version !== self.version)
    return `rank ${rank} runs Nereid ${hello.version}, rank ${self.rank} ${self.version}; run the same everywhere`;
  if (ranks !== self.ranks)
    return `rank ${rank} counts ${ranks} ranks, rank ${self.rank} ${self.ranks}; give the same --world-size everywhere`;
  if (hello.engine !== self.engine)
    return `rank ${rank} has another engine than rank ${self.rank}; serve the same model and build everywhere`;
  if (!isWanted(rank)) return `rank ${rank} is not expected here, or is here already; give each rank once`;
  return undefined;
}

function parsed<T>(schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new RuntimeError(
    'RANK_MESSAGE_INVALID',
    'a rank introduced itself in a way that this version does not know',
  );
}

function refusedError(problem: string): RuntimeError {
  return new RuntimeError('RANK_REFUSED', `the ranks do not form a group: ${problem}`);
}
