/** One rank of `collective.test.ts`: does the exchanges that it is sent and answers with what it got. */
import { openSharedCollective } from '../../src/device/collective/open-shared.ts';

/** Values of one rank in one exchange: different for each element, rank and exchange. */
export function valueAt(exchange: number, rank: number, index: number): number {
  return Math.fround(Math.sin(exchange * 7 + rank * 3 + index * 0.001));
}

const [path = '', rank = '', ranks = ''] = process.argv.slice(2);
process.once('message', (message) => {
  const { lengths, widths } = message as { lengths: number[]; widths: number[] };
  const collective = openSharedCollective(path, Number(rank), Number(ranks), { timeoutMs: 60_000 });
  const fill = (exchange: number, length: number) =>
    Float32Array.from({ length }, (_, index) => valueAt(exchange, collective.rank, index));
  const sums = lengths.map((length, exchange) => {
    const values = fill(exchange, length);
    collective.allReduce(values);
    return values;
  });
  const joined = lengths.map((rows, exchange) => {
    const total = widths.reduce((sum, width) => sum + width, 0);
    const result = new Float32Array(rows * total);
    collective.allGather(fill(exchange, rows * (widths[collective.rank] ?? 0)), widths, result);
    return result;
  });
  collective.close();
  process.send?.({ sums, joined }, () => process.exit(0));
});
