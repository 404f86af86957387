import { styleText } from 'node:util';

/** Colours for a terminal. Never the only carrier of meaning. */
export interface Paint {
  good(text: string): string;
  warn(text: string): string;
  bad(text: string): string;
  dim(text: string): string;
  bold(text: string): string;
}

const same = (text: string) => text;

/** No colours: for pings, messages, files and pipes. */
export const plainPaint: Paint = { good: same, warn: same, bad: same, dim: same, bold: same };

type Style = 'green' | 'yellow' | 'red' | 'dim' | 'bold';
// The caller knows that there is a terminal. By default, styleText would check stdout.
const style = (name: Style) => (text: string) => styleText(name, text, { validateStream: false });

/** ANSI colours, for a stream that the caller knows to be a terminal (and NO_COLOR to be unset). */
export const ansiPaint: Paint = {
  good: style('green'),
  warn: style('yellow'),
  bad: style('red'),
  dim: style('dim'),
  bold: style('bold'),
};
