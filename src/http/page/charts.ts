import type { Hole, Window } from '../../store/wal/windows.ts';
import { type Html, html } from './text.ts';

/** A value at a moment, milliseconds since 1970. */
export interface Point {
  at: number;
  value: number;
}

/** Size of the drawing; the page scales it. */
const WIDTH = 300;
const HEIGHT = 46;
/** Space above and below the line. */
const EDGE = 4;

/**
 * Draws values over time as a line with an area.
 *
 * @param points oldest first, at least two
 * @param label what the chart shows, in words
 */
export function lineChart(points: readonly Point[], label: string): Html {
  const first = points[0]?.at ?? 0;
  const span = Math.max(1, (points.at(-1)?.at ?? 0) - first);
  const most = Math.max(...points.map(({ value }) => value), 1);
  const least = Math.min(...points.map(({ value }) => value));
  // Small changes of a large value are visible, and a flat line is not drawn as a cliff.
  const floor = least > most * 0.5 ? Math.max(0, least - (most - least) - most * 0.1) : 0;
  const coordinates = points.map(({ at, value }) => {
    const x = ((at - first) / span) * WIDTH;
    const y = HEIGHT - EDGE - ((value - floor) / (most - floor)) * (HEIGHT - 2 * EDGE);
    return `${x.toFixed(1)} ${y.toFixed(1)}`;
  });
  const line = `M${coordinates.join(' L')}`;
  return html`<svg class="chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img" aria-label="${label}"><path class="a" d="${line} V${HEIGHT} H0Z"/><path d="${line}"/></svg>`;
}

/**
 * Draws the times to which a server can be recovered as a bar from the first of them until now. Gaps stay grey.
 *
 * @param windows at least one
 * @param now end of the bar
 * @param label what the bar shows, in words
 */
export function windowBar(windows: readonly Window[], now: number, label: string): Html {
  const from = Math.min(...windows.map((one) => Date.parse(one.from)));
  const span = Math.max(1, now - from);
  const x = (iso: string) => Math.max(0, Math.min(1, (Date.parse(iso) - from) / span)) * 1000;
  const bars = windows.map((one) => {
    const left = x(one.from);
    return html`<rect class="w" x="${left.toFixed(1)}" y="0" width="${Math.max(2, x(one.to) - left).toFixed(1)}" height="12"/>`;
  });
  return html`<svg class="window" viewBox="0 0 1000 12" preserveAspectRatio="none" role="img" aria-label="${label}"><rect class="h" x="0" y="0" width="1000" height="12"/>${bars}</svg>`;
}

/** Words for the gaps of a window: `no gaps`, `1 gap`. */
export function gapsText(holes: readonly Hole[]): string {
  if (holes.length === 0) return 'no gaps';
  return holes.length === 1 ? '1 gap' : `${holes.length} gaps`;
}

/** A day in the strip: `n` no run, `p` partly failed, `f` failed, empty: good. */
export interface Day {
  state: '' | 'n' | 'p' | 'f';
  /** shown to people who point at it */
  title: string;
}

/** Draws one cell a day. Good days are full, partly failed ones are lower, failed ones striped, and empty ones flat. */
export function strip(days: readonly Day[], label: string): Html {
  const cells = days.map(({ state, title }) => html`<i class="${state}" title="${title}"></i>`);
  return html`<div class="strip" role="img" aria-label="${label}">${cells}</div>`;
}
