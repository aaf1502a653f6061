/** What a piece of an answer turned out to be. Calls are counted from 0 within one answer. */
export type AnswerPart =
  | { kind: 'text'; text: string }
  /** What a model thinks before it answers. */
  | { kind: 'reasoning'; text: string }
  /** A call to a tool begins. */
  | { kind: 'call'; call: number; name: string }
  /** More of a call's arguments: JSON text, as the model wrote it. */
  | { kind: 'arguments'; call: number; text: string };

/** Finds parts in one answer's text as it arrives. What may be the start of a marker is held back until it is certain. */
export interface PartParser {
  push(text: string): AnswerPart[];
  /** The answer is over: what was held back. */
  flush(): AnswerPart[];
}

/** The text in front of a marker, or what is certain not to be part of one. */
export interface MarkerSearch {
  before: string;
  /** Which of the markers was found first; undefined: none. */
  found: string | undefined;
  /** Behind the marker, or what may be the beginning of one. */
  rest: string;
}

/** Looks for the first of some markers in a text of which more is to come. */
export function findMarker(text: string, markers: readonly string[]): MarkerSearch {
  let place = -1;
  let found: string | undefined;
  for (const marker of markers) {
    const at = text.indexOf(marker);
    if (at >= 0 && (place < 0 || at < place)) [place, found] = [at, marker];
  }
  if (found !== undefined) {
    return { before: text.slice(0, place), found, rest: text.slice(place + found.length) };
  }
  const held = Math.max(0, ...markers.map((marker) => heldLength(text, marker)));
  return {
    before: text.slice(0, text.length - held),
    found: undefined,
    rest: text.slice(text.length - held),
  };
}

/** Length of the longest end of `text` that a marker begins with. */
function heldLength(text: string, marker: string): number {
  for (let length = Math.min(text.length, marker.length - 1); length > 0; length--) {
    if (marker.startsWith(text.slice(-length))) return length;
  }
  return 0;
}

/** An answer's parts put together. */
export interface WholeParts {
  text: string;
  reasoning: string;
  calls: { name: string; arguments: string }[];
}

/** All parts of a finished text. */
export function wholeParts(parser: PartParser, text: string): WholeParts {
  const whole: WholeParts = { text: '', reasoning: '', calls: [] };
  for (const part of [...parser.push(text), ...parser.flush()]) addPart(whole, part);
  return whole;
}

/** Adds a part to those before it. */
export function addPart(whole: WholeParts, part: AnswerPart): void {
  if (part.kind === 'text') whole.text += part.text;
  else if (part.kind === 'reasoning') whole.reasoning += part.text;
  else if (part.kind === 'call') whole.calls[part.call] = { name: part.name, arguments: '' };
  else {
    const call = whole.calls[part.call];
    if (call) call.arguments += part.text;
  }
}
