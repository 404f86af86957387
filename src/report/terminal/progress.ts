import { redact } from '../../base/redact.ts';
import type { Listener, Progress, RunEvent, SourceReport } from '../events.ts';
import { cutToWidth, displayWidth, formatBytes, formatDuration, oneLine } from '../format.ts';
import { type Paint, plainPaint } from '../paint.ts';
import { outcome, type RateInfo, renderProgress } from '../text.ts';

/** The members of a terminal or file stream that the display uses: `process.stderr` has them. */
interface ProgressStream {
  isTTY?: boolean;
  columns?: number;
  rows?: number;
  write(text: string): unknown;
}

/** A display of work in progress. */
interface ProgressDisplay extends Listener {
  /**
   * Writes a line (with its line break) above the status lines. Log lines pass through here while the display is in
   * use.
   */
  write(line: string): void;
  /** Removes the status lines. Further events bring them back. */
  close(): void;
}

/** At most five times a second. */
const REDRAW_MS = 200;
/** Within this time (milliseconds), the weight of the past in the moving average drops to a third. */
const RATE_WINDOW = 3_000;

const widthOf = (name: string) => displayWidth(oneLine(redact(name)));

/**
 * Creates a progress display. On a terminal, it shows one status line for each running source, with rate and time left.
 * Elsewhere, it prints one plain line when a source starts, when its size becomes known, and when it finishes.
 */
export function createProgress(
  stream: ProgressStream,
  { paint = plainPaint, now = Date.now }: { paint?: Paint; now?: () => number } = {},
): ProgressDisplay {
  return new Display(stream, paint, now);
}

/** A running source and its progress. */
interface Running {
  line: string;
  meter: Meter;
  last?: Progress;
  /** the size that was printed last, where the output is no terminal */
  size?: number | undefined;
}

class Display implements ProgressDisplay {
  readonly name = 'progress';
  private readonly live: boolean;
  private readonly running = new Map<string, Running>();
  private readonly stream: ProgressStream;
  private readonly paint: Paint;
  private readonly now: () => number;
  /** status lines on the screen */
  private drawn = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(stream: ProgressStream, paint: Paint, now: () => number) {
    this.stream = stream;
    this.paint = paint;
    this.now = now;
    this.live = stream.isTTY === true;
  }

  handle(event: RunEvent): void {
    if (event.type === 'source-started') this.start(event.source);
    else if (event.type === 'progress') this.update(event.progress);
    else if (event.type === 'source-finished') {
      this.running.delete(event.result.name);
      this.say(finishedLine(event.result, this.paint));
    } else if (event.type === 'run-finished') this.close();
  }

  write(line: string): void {
    if (this.live && this.drawn > 0) this.draw(line);
    else this.stream.write(line);
  }

  close(): void {
    if (this.timer !== undefined) clearTimeout(this.timer);
    this.timer = undefined;
    this.running.clear();
    if (this.live && this.drawn > 0) this.stream.write(this.erase());
    this.drawn = 0;
  }

  private start(source: string): void {
    const line = `${oneLine(redact(source))}   started`;
    this.running.set(source, { line, meter: createMeter(this.now) });
    if (this.live) this.drawSoon();
    else this.say(line);
  }

  private update(progress: Progress): void {
    const entry = this.running.get(progress.source) ?? { line: '', meter: createMeter(this.now) };
    entry.meter.add(progress);
    const size = progress.total ?? progress.from ?? entry.size;
    this.running.set(progress.source, { ...entry, last: progress, size });
    if (this.live) this.drawSoon();
    else if (size !== entry.size || (progress.waits && entry.last?.phase !== progress.phase))
      this.say(renderProgress(progress));
  }

  private erase(): string {
    return this.drawn > 0 ? `\x1b[${this.drawn}A\x1b[0J` : '';
  }

  private draw(above = ''): void {
    if (this.timer !== undefined) clearTimeout(this.timer);
    this.timer = undefined;
    const { columns = 80, rows = 24 } = this.stream;
    const width = Math.max(20, columns) - 1;
    const nameWidth = Math.max(0, ...[...this.running.keys()].map(widthOf));
    // A line that has scrolled out of the window cannot be erased.
    const lines = [...this.running.values()].slice(0, Math.max(1, rows - 2)).map(({ last, line, meter }) => {
      return cutToWidth(last === undefined ? line : renderProgress(last, meter.rate(), nameWidth), width);
    });
    this.stream.write(this.erase() + above + lines.map((line) => `${line}\n`).join(''));
    this.drawn = lines.length;
  }

  private drawSoon(): void {
    this.timer ??= setTimeout(() => this.draw(), REDRAW_MS).unref();
  }

  private say(line: string): void {
    if (this.live) this.draw(`${line}\n`);
    else this.stream.write(`${line}\n`);
  }
}

/** The line that stays after a source has finished. */
function finishedLine(result: SourceReport, paint: Paint): string {
  const colour = { ok: paint.good, partial: paint.warn, failed: paint.bad }[result.status];
  const { error } = result;
  const what = error === undefined ? outcome(result) : `${oneLine(error.message)} (${error.code})`;
  return `${redact(oneLine(result.name))}   ${colour(result.status)} ${formatDuration(result.durationMs)}   ${redact(what)}`;
}

interface Meter {
  add(progress: Progress): void;
  rate(): RateInfo | undefined;
}

/** Measures the rate of one source as an exponential moving average over time. */
export function createMeter(now: () => number): Meter {
  let sample: { at: number; done: number } | undefined;
  let newest: Progress | undefined;
  let average: number | undefined;
  return {
    add(progress) {
      const at = now();
      // Each phase counts its own bytes.
      const restart = newest === undefined || progress.phase !== newest.phase || progress.done < newest.done;
      newest = progress;
      if (sample === undefined || restart) {
        sample = { at, done: progress.done };
        average = undefined;
        return;
      }
      const ms = at - sample.at;
      if (ms < REDRAW_MS) return; // too short to measure; the bytes count towards the next sample
      const rate = ((progress.done - sample.done) / ms) * 1_000;
      const weight = Math.exp(-ms / RATE_WINDOW);
      average = average === undefined ? rate : average * weight + rate * (1 - weight);
      sample = { at, done: progress.done };
    },
    rate() {
      if (average === undefined || newest === undefined) return undefined;
      const { done, total } = newest;
      const left = total === undefined || average < 1 ? undefined : Math.max(0, ((total - done) / average) * 1_000);
      return { bytesPerSecond: average, leftMs: left };
    },
  };
}

/** A status line with a percentage and an amount on a terminal. Prints nothing elsewhere. */
interface MeterLine {
  show(done: number, total: number): void;
  clear(): void;
}

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
