import { formatBytes } from './format.ts';
import type { ProgressStream } from './progress.ts';

/** A status line with a percentage and an amount on a terminal. Prints nothing elsewhere. */
interface MeterLine {
  show(done: number, total: number): void;
  clear(): void;
}

const REDRAW_MS = 200;

/** `what` names the activity: `reading`. */
export function createMeterLine(
  stream: ProgressStream | undefined,
  what: string,
  now: () => number = Date.now,
): MeterLine {
  if (!stream?.isTTY) return { show() {}, clear() {} };
  let drawnAt = 0;
  return {
    show(done, total) {
      if (now() - drawnAt < REDRAW_MS) return;
      drawnAt = now();
      const percent = total > 0 ? Math.min(100, Math.floor((done / total) * 100)) : 0;
      stream.write(`\r\x1b[K${what} ${percent} % · ${formatBytes(done)} of ${formatBytes(total)}`);
    },
    clear() {
      if (drawnAt > 0) stream.write('\r\x1b[K');
    },
  };
}
