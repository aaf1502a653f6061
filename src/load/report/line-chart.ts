/** One line (or cloud of points) of a chart. */
export interface Series {
  name: string;
  points: readonly (readonly [x: number, y: number])[];
}

/** What a chart shows. */
export interface ChartOptions {
  title: string;
  xLabel: string;
  yLabel: string;
  /** Points instead of lines. */
  isScatter?: boolean;
}

const width = 640;
const height = 320;
const margin = { left: 64, right: 16, top: 34, bottom: 46 };
const ticksWanted = 5;

/** Points drawn of one series: more cannot be seen, and make the file large. */
export const pointsMax = 2000;

/** Distinguishable also for the colour-blind (Okabe and Ito). */
const colours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000'];

/** The colour of the n-th series. */
export function colourOf(index: number): string {
  return colours[index % colours.length] ?? '#000';
}

/** Text that means itself in HTML and SVG. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** A chart as an SVG element. Axes begin at 0. */
export function lineChart(series: readonly Series[], options: ChartOptions): string {
  const thin = series.map((one) => ({ ...one, points: thinned(one.points) }));
  const points = thin.flatMap((one) => one.points);
  const xMax = niceMax(Math.max(0, ...points.map(([x]) => x)));
  const yMax = niceMax(Math.max(0, ...points.map(([, y]) => y)));
  const x = (value: number): number => margin.left + (value / xMax) * (width - margin.left - margin.right);
  const y = (value: number): number =>
    height - margin.bottom - (value / yMax) * (height - margin.top - margin.bottom);
  const drawn = thin.map((one, index) =>
    options.isScatter ? dots(one, index, x, y) : line(one, index, x, y),
  );
  return [
    `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeHtml(options.title)}">`,
    `<text x="${margin.left}" y="18" class="title">${escapeHtml(options.title)}</text>`,
    ...axes(options, xMax, yMax, x, y),
    ...drawn,
    '</svg>',
  ].join('\n');
}

function thinned(points: Series['points']): Series['points'] {
  const step = Math.ceil(points.length / pointsMax);
  return step <= 1 ? points : points.filter((_, index) => index % step === 0 || index === points.length - 1);
}

function line({ points }: Series, index: number, x: Scale, y: Scale): string {
  const path = points.map(([px, py]) => `${x(px).toFixed(1)},${y(py).toFixed(1)}`).join(' ');
  return `<polyline points="${path}" fill="none" stroke="${colourOf(index)}" stroke-width="1.8"/>`;
}

function dots({ points }: Series, index: number, x: Scale, y: Scale): string {
  const circles = points.map(
    ([px, py]) => `<circle cx="${x(px).toFixed(1)}" cy="${y(py).toFixed(1)}" r="2"/>`,
  );
  return `<g fill="${colourOf(index)}" fill-opacity="0.6">${circles.join('')}</g>`;
}

type Scale = (value: number) => number;

function axes(options: ChartOptions, xMax: number, yMax: number, x: Scale, y: Scale): string[] {
  const lines: string[] = [];
  for (let tick = 0; tick <= ticksWanted; tick++) {
    const xValue = (xMax * tick) / ticksWanted;
    const yValue = (yMax * tick) / ticksWanted;
    lines.push(
      `<line x1="${margin.left}" x2="${width - margin.right}" y1="${y(yValue)}" y2="${y(yValue)}" class="grid"/>`,
      `<text x="${margin.left - 6}" y="${y(yValue) + 4}" text-anchor="end">${label(yValue)}</text>`,
      `<text x="${x(xValue)}" y="${height - margin.bottom + 16}" text-anchor="middle">${label(xValue)}</text>`,
    );
  }
  const middle = (height - margin.bottom + margin.top) / 2;
  lines.push(
    `<text x="${(width + margin.left) / 2}" y="${height - 8}" text-anchor="middle">${escapeHtml(options.xLabel)}</text>`,
    `<text x="14" y="${middle}" text-anchor="middle" transform="rotate(-90 14 ${middle})">${escapeHtml(options.yLabel)}</text>`,
  );
  return lines;
}

/** The next of 1, 2, 2.5, 5, 10, … at or above a value. */
function niceMax(value: number): number {
  if (!(value > 0) || !Number.isFinite(value)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 2.5, 5, 10].find((step) => step * power >= value) ?? 10) * power;
}

function label(value: number): string {
  if (value >= 10_000) return `${Number((value / 1000).toFixed(1))}k`;
  return String(Number(value.toPrecision(3)));
}
