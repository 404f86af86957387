import { redact } from '../redact.ts';
import type { Listener, Progress } from './events.ts';
import { cutToWidth, displayWidth, formatDuration, oneLine } from './format.ts';
import { type Paint, plainPaint } from './paint.ts';
import { outcome, type RateInfo, renderProgress } from './text.ts';

/** The part of a terminal or file stream that is used: `process.stderr` fits. */
export interface ProgressStream {
  isTTY?: boolean;
  columns?: number;
  rows?: number;
  write(text: string): unknown;
}

/** A display of running work. */
export interface ProgressDisplay extends Listener {
  /** Writes a line (with its line break) above the status lines: log lines go through here while the display is used. */
  write(line: string): void;
  /** Takes the status lines away; more events bring them back. */
  close(): void;
}

/** At most five times a second. */
const REDRAW_MS = 200;
/** Weight of the past in the moving average falls to a third within this time, ms. */
const RATE_WINDOW = 3_000;

/**
 * Shows progress on a terminal: one status line for each running source, with rate and time left. Where the stream is no
 * terminal, one plain line when a source starts and one when it has finished. Never throws over what a source is called.
 */
export function createProgress(
  stream: ProgressStream,
  { paint = plainPaint, now = Date.now }: { paint?: Paint; now?: () => number } = {},
): ProgressDisplay {
  const live = stream.isTTY === true;
  const running = new Map<string, { line: string; meter: Meter; last?: Progress }>();
  let drawn = 0;
  let timer: NodeJS.Timeout | undefined;

  const erase = () => (drawn > 0 ? `\x1b[${drawn}A\x1b[0J` : '');

  function draw(above = ''): void {
    if (timer !== undefined) clearTimeout(timer);
    timer = undefined;
    const width = Math.max(20, stream.columns ?? 80) - 1;
    const nameWidth = Math.max(0, ...[...running.keys()].map((name) => displayWidth(oneLine(redact(name)))));
    // A line that has scrolled out of the window could not be erased.
    const lines = [...running.values()].slice(0, Math.max(1, (stream.rows ?? 24) - 2)).map(({ last, line, meter }) => {
      return cutToWidth(last === undefined ? line : renderProgress(last, meter.rate(), nameWidth), width);
    });
    stream.write(erase() + above + lines.map((line) => `${line}\n`).join(''));
    drawn = lines.length;
  }

  const drawSoon = () => {
    timer ??= setTimeout(draw, REDRAW_MS).unref();
  };
  const say = (line: string) => (live ? draw(`${line}\n`) : stream.write(`${line}\n`));

  function close(): void {
    if (timer !== undefined) clearTimeout(timer);
    timer = undefined;
    running.clear();
    if (live && drawn > 0) stream.write(erase());
    drawn = 0;
  }

  return {
    name: 'progress',
    handle(event) {
      if (event.type === 'source-started') {
        const line = `${oneLine(redact(event.source))}   started`;
        running.set(event.source, { line, meter: createMeter(now) });
        if (live) drawSoon();
        else say(line);
      } else if (event.type === 'progress') {
        const entry = running.get(event.progress.source) ?? { line: '', meter: createMeter(now) };
        entry.meter.add(event.progress);
        running.set(event.progress.source, { ...entry, last: event.progress });
        if (live) drawSoon();
        else if (event.progress.waits && entry.last?.phase !== event.progress.phase)
          say(renderProgress(event.progress));
      } else if (event.type === 'source-finished') {
        const { result } = event;
        running.delete(result.name);
        const colour = { ok: paint.good, partial: paint.warn, failed: paint.bad }[result.status];
        const what =
          result.error === undefined ? outcome(result) : `${oneLine(result.error.message)} (${result.error.code})`;
        say(
          `${redact(oneLine(result.name))}   ${colour(result.status)} ${formatDuration(result.durationMs)}   ${redact(what)}`,
        );
      } else if (event.type === 'run-finished') {
        close();
      }
    },
    write(line) {
      if (live && drawn > 0) draw(line);
      else stream.write(line);
    },
    close,
  };
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
      // Another phase counts other bytes.
      const restart = newest === undefined || progress.phase !== newest.phase || progress.done < newest.done;
      newest = progress;
      if (sample === undefined || restart) {
        sample = { at, done: progress.done };
        average = undefined;
        return;
      }
      const ms = at - sample.at;
      if (ms < REDRAW_MS) return; // too short to measure: the bytes count with the next sample
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
