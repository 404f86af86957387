import { PassThrough } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { treeJobMain } from '../../src/trees/job.ts';

test('a helper sends heartbeats while it works, which do not count as progress, and its last line is the result', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  try {
    const lines: { type: string }[] = [];
    const stdin = new PassThrough();
    const write = (line: string) => lines.push(JSON.parse(line) as { type: string });
    const open = () => {
      throw new Error('no destination');
    };
    const ended = treeJobMain(stdin, write, open, new AbortController().signal);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(lines.length).toBeGreaterThanOrEqual(2);
    expect(new Set(lines.map(({ type }) => type))).toEqual(new Set(['alive']));
    stdin.end('{"job": {}, "settings": {}}');
    await ended;
    const said = lines.length;
    await vi.advanceTimersByTimeAsync(60_000);
    expect({ last: lines.at(-1)?.type, said: lines.length }).toEqual({ last: 'error', said });
  } finally {
    vi.useRealTimers();
  }
});
