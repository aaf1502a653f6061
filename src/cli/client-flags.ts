/** Flags of the original clients that begin with one dash, as Python's argparse lets them. */
const singleDashes: Readonly<Record<string, string>> = {
  '-topk': '--topk',
  '-topp': '--topp',
  '-beam': '--beam-width',
};

/** The original clients write their flags with underscores (`--output_len`) or dashes, as it came: both are the same here. */
export function withDashes(argv: readonly string[]): string[] {
  return argv.map((argument) => {
    if (/^--[a-z]/.test(argument)) return argument.replace(/^[^=]*/, (flag) => flag.replaceAll('_', '-'));
    return singleDashes[argument] ?? argument;
  });
}
