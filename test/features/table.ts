import { features } from './registry.ts';
import { gpuPlace, places } from './run.ts';

/**
 * Feature × feature as Markdown: ✓ where the two work together on every device, else the devices that refuse it, with the code.
 * @param verdicts by `device|feature|feature`, in the order of the registry: '' for works, or a code
 */
export function featureTable(verdicts: ReadonlyMap<string, string>): string {
  const numbered = features.map(({ name }, index) => `${index + 1} ${name}`);
  const header = `| | ${features.map((_, index) => index + 1).join(' | ')} |`;
  const rule = `|---|${features.map(() => ':-:').join('|')}|`;
  const rows = features.map((feature, row) => {
    const cells = features.map((other, column) => {
      if (column < row) return '';
      return cellOf(
        places.map(({ name }) => verdicts.get(`${name}|${feature.name}|${other.name}`) ?? 'not run'),
      );
    });
    return `| ${numbered[row]} | ${cells.join(' | ')} |`;
  });
  const devices = places.map(({ name }) => name).join('; ');
  return `Ran on: ${devices}; and, where there is a GPU, ${gpuPlace.name}, whose verdicts are the reference device's.\n\n${[header, rule, ...rows].join('\n')}\n`;
}

function cellOf(verdicts: readonly string[]): string {
  if (verdicts.every((verdict) => verdict === '')) return '✓';
  const refused = verdicts.flatMap((verdict, index) =>
    verdict === '' ? [] : [`${places[index]?.name}: ${verdict}`],
  );
  const [first] = verdicts;
  return verdicts.every((verdict) => verdict === first) ? `\`${first}\`` : refused.join('<br>');
}
