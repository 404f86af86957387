import { expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog, withTail } from '../../src/base/log.ts';
import { type Channel, createNotifier } from '../../src/notify/channel.ts';
import { noteFailure } from '../../src/notify/failure.ts';
import type { RunReport } from '../../src/report/events.ts';
import { makeFailure, makeReport, NOW } from '../report/fixtures.ts';

const { signal } = new AbortController();

/** A channel that fails as often as asked, and its notifier. */
function setup({ failures, refused, againMs = [1, 1, 1] }: { failures: number; refused?: string; againMs?: number[] }) {
  const sent: string[][] = [];
  let left = failures;
  let clock = NOW.getTime();
  const channel: Channel = {
    name: 'flaky',
    async send({ title, facts }) {
      if (title === refused) throw noteFailure(new LifeboatError('NOTIFY_FAILED', 'no'), { isRefused: true });
      if (left-- > 0) throw noteFailure(new LifeboatError('NOTIFY_FAILED', 'down'), { isRefused: false });
      sent.push([title, ...facts]);
      return 'sent';
    },
  };
  const { log, tail } = withTail(silentLog);
  const notifier = createNotifier(channel, { project: 'shop', log, now: () => clock, clock: () => clock, againMs });
  const run = async (report: RunReport) => notifier.handle({ type: 'run-finished', report }, signal);
  return { sent, run, tail, wait: (ms: number) => (clock += ms), repair: () => (left = 0) };
}
const bad = makeReport({ status: 'failed', results: [makeFailure()] });
const good = makeReport({ previousStatus: 'failed' });
const titles = (sent: string[][]) => sent.map(([title]) => title);
const until = async (condition: () => boolean) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
};

test('a message that could not be sent arrives later, and says when it is from', async () => {
  const { sent, run, wait } = setup({ failures: 2 });
  await expect(run(bad)).rejects.toThrow('down');
  wait(3_600_000);
  await until(() => sent.length > 0);
  expect(sent[0]?.slice(0, 2)).toEqual([
    'shop: backup failed',
    'This message is from 2026-11-20T03:00:41.000Z, and could not be sent before.',
  ]);
});

test('messages keep their order: the failure comes before its end', async () => {
  const { sent, run } = setup({ failures: 1, againMs: [1_000_000] });
  await expect(run(bad)).rejects.toThrow('down');
  await run(good);
  expect(titles(sent)).toEqual(['shop: backup failed', 'shop: backup ok again']);
});

test('a channel that stays down keeps a few messages, and gives up the oldest', async () => {
  const { sent, run, tail, wait } = setup({ failures: Number.POSITIVE_INFINITY, againMs: [1] });
  await expect(run(bad)).rejects.toThrow('down');
  wait(7 * 3_600_000);
  await until(() => tail().length > 0);
  const lines = tail().length;
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(tail()).toHaveLength(lines);
  expect(tail().join('\n')).toContain(
    'a message was never sent: it is too old {"listener":"flaky","title":"shop: backup failed"',
  );
  expect(sent).toEqual([]);
  const many = setup({ failures: Number.POSITIVE_INFINITY, againMs: [1_000_000] });
  for (let i = 0; i < 30; i++) await expect(many.run(bad)).rejects.toThrow('down');
  many.repair();
  await many.run(good);
  expect(many.sent).toHaveLength(20);
  expect(titles(many.sent).at(-1)).toBe('shop: backup ok again');
});

test('a message whose last try hits the end of an outage is not lost, unless the newer one says the opposite', async () => {
  const { sent, run, tail } = setup({ failures: 2, againMs: [1_000_000] });
  await expect(run(bad)).rejects.toThrow('down');
  await run(bad);
  expect(titles(sent)).toEqual(['shop: backup failed', 'shop: backup failed']);
  expect(tail()).toEqual([]);
  const other = setup({ failures: 2, againMs: [1_000_000] });
  await expect(other.run(bad)).rejects.toThrow('down');
  other.wait(1000);
  await other.run(good);
  expect(titles(other.sent)).toEqual(['shop: backup ok again']);
  expect(other.tail().join()).toContain('a message was never sent: a newer one says the opposite');
});

test('a message that the other side refuses for good does not hold up the others', async () => {
  const { sent, run, tail } = setup({ failures: 0, refused: 'shop: backup failed', againMs: [1_000_000] });
  await expect(run(bad)).rejects.toThrow('no');
  await run(good);
  await run(good);
  expect(titles(sent)).toEqual(['shop: backup ok again', 'shop: backup ok again']);
  expect(tail().join('\n')).toContain('a message was never sent: it was refused');
});
