import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createMeter, createProgress } from '../../src/report/terminal/progress.ts';
import { makeFailure, makeReport, makeResult } from './fixtures.ts';

const NEVER = new AbortController().signal;
const MIB = 1024 ** 2;

function stream(over: { isTTY?: boolean; columns?: number; rows?: number } = {}) {
  const writes: string[] = [];
  return { ...over, writes, write: (text: string) => writes.push(text), text: () => writes.join('') };
}

/** Returns the contents of a terminal after all writes. Interprets line feeds, `ESC[nA` and `ESC[0J`. */
function screen(text: string): string[] {
  const lines = [''];
  const tokens = new RegExp(`${String.fromCharCode(27)}\\[(\\d+)([AJ])|\\n|[^\\n${String.fromCharCode(27)}]+`, 'g');
  for (const [token, count, kind] of text.matchAll(tokens)) {
    // The cursor is on the last line. After each move up, the lines below are erased.
    if (kind === 'A') lines.splice(lines.length - Number(count) - 1);
    if (kind === 'A' || token === '\n') lines.push('');
    else if (kind === undefined) lines[lines.length - 1] += token;
  }
  return lines.filter((line) => line !== '');
}

test('not on a terminal: a line when the size becomes known, or another one does', () => {
  const out = stream();
  const display = createProgress(out);
  const show = (progress: object) =>
    display.handle({ type: 'progress', progress: { source: 'db', phase: 'dumping app', done: 0, ...progress } }, NEVER);
  display.handle({ type: 'source-started', source: 'db' }, NEVER);
  for (let done = 0; done < 50; done++) show({ done: done * MIB, from: 100 * MIB });
  for (let done = 0; done < 50; done++) show({ phase: 'storing', done, total: 50 * MIB });
  expect(out.text().split('\n')).toEqual([
    'db   started',
    'db   dumping app 0 B from 100 MiB of data',
    'db   storing 0 B of ~50.0 MiB',
    '',
  ]);
});

test('not on a terminal: one line at the start and end of each source', () => {
  const out = stream();
  const display = createProgress(out);
  display.handle({ type: 'source-started', source: 'web.media' }, NEVER);
  for (let i = 0; i < 100; i++)
    display.handle({ type: 'progress', progress: { source: 'web.media', phase: 'reading', done: i } }, NEVER);
  display.handle({ type: 'source-finished', result: makeResult() }, NEVER);
  display.handle({ type: 'source-finished', result: makeFailure() }, NEVER);
  display.handle({ type: 'run-finished', report: makeReport() }, NEVER);
  expect(out.text().split('\n')).toEqual([
    'web.media   started',
    'web.media   ok 29s   20,114 files · 3.1 MiB new (17 files)',
    'db.postgres   failed 12s   dump ended early: container restarted (PG_RESTARTED)',
    '',
  ]);
});

describe('on a terminal', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test('one status line per running source, redrawn at most five times a second', () => {
    const out = stream({ isTTY: true, columns: 60 });
    const display = createProgress(out);
    display.handle({ type: 'source-started', source: 'a' }, NEVER);
    display.handle({ type: 'source-started', source: 'bbb' }, NEVER);
    for (let i = 1; i <= 42; i++) {
      display.handle({ type: 'progress', progress: { source: 'a', phase: 'reading', done: i * MIB } }, NEVER);
      display.handle({ type: 'progress', progress: { source: 'bbb', phase: 'dumping'.repeat(9), done: i } }, NEVER);
      vi.advanceTimersByTime(5);
    }
    vi.advanceTimersByTime(210);
    expect(out.writes.length).toBeLessThanOrEqual(3);
    const shown = screen(out.text());
    expect(shown).toHaveLength(2);
    expect(shown[0]).toMatch(/^a {5}reading 42\.0 MiB/);
    expect(shown[1]).toHaveLength(59);
    display.handle({ type: 'source-finished', result: makeResult({ name: 'a' }) }, NEVER);
    expect(screen(out.text())[0]).toMatch(/^a {3}ok 29s/);
    expect(screen(out.text())).toHaveLength(2);
    display.write('{"level":"info"}\n');
    expect(screen(out.text())).toHaveLength(3);
    expect(screen(out.text())[1]).toBe('{"level":"info"}');
    display.handle({ type: 'progress', progress: { source: 'bbb', phase: 'last', done: 1 } }, NEVER);
    display.handle({ type: 'run-finished', report: makeReport() }, NEVER);
    expect(screen(out.text())).toEqual([expect.stringMatching(/^a {3}ok/), '{"level":"info"}']);
    const { length } = out.writes;
    vi.advanceTimersByTime(220);
    expect(out.writes).toHaveLength(length);
  });

  test('never more lines than the window has', () => {
    const out = stream({ isTTY: true, columns: 60, rows: 6 });
    const display = createProgress(out);
    for (let i = 0; i < 50; i++) display.handle({ type: 'source-started', source: `s${i}` }, NEVER);
    display.handle({ type: 'source-finished', result: makeResult({ name: 's0' }) }, NEVER);
    expect(screen(out.text())).toHaveLength(1 + 4);
    display.close();
  });
});

describe('the rate', () => {
  test('converges to a steady rate, and shows the time left', () => {
    let now = 0;
    const meter = createMeter(() => now);
    for (let i = 0; i <= 100; i++) {
      now = i * 100;
      meter.add({ source: 'a', phase: 'p', done: i * MIB, total: 200 * MIB });
    }
    const rate = meter.rate();
    expect(rate?.bytesPerSecond).toBeCloseTo(10 * MIB, 0);
    expect(rate?.leftMs).toBeCloseTo(10_000, 0);
  });

  test('follows a change within some seconds', () => {
    let now = 0;
    let done = 0;
    const meter = createMeter(() => now);
    for (; now <= 20_000; now += 500) {
      done += now < 10_000 ? 50 * MIB : MIB;
      meter.add({ source: 'a', phase: 'p', done });
    }
    expect((meter.rate()?.bytesPerSecond ?? 0) / MIB).toBeGreaterThan(2);
    expect((meter.rate()?.bytesPerSecond ?? 0) / MIB).toBeLessThan(10);
    expect(meter.rate()?.leftMs).toBeUndefined();
  });

  test('starts again with another phase, and is unknown at first', () => {
    let now = 0;
    const meter = createMeter(() => now);
    meter.add({ source: 'a', phase: 'p', done: 1_000_000 });
    expect(meter.rate()).toBeUndefined();
    now = 1_000;
    meter.add({ source: 'a', phase: 'p', done: 2_000_000 });
    expect(meter.rate()?.bytesPerSecond).toBe(1_000_000);
    meter.add({ source: 'a', phase: 'q', done: 5 });
    expect(meter.rate()).toBeUndefined();
  });
});
