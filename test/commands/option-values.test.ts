import { Command } from 'commander';
import { expect, test } from 'vitest';
import { addPointOptions, aimOf, withoutAim } from '../../src/commands/option-values.ts';

/** Parses a command line as `restore` does. */
const parse = (...args: string[]) => {
  const command = addPointOptions(new Command())
    .exitOverride()
    .configureOutput({ writeErr: () => undefined });
  command.parse(args, { from: 'user' });
  return command.opts();
};

test.each([
  [['--at', 'latest'], { target: 'latest' }],
  [['--lsn', 'a/3000060'], { target: { lsn: 'A/3000060' } }],
  [['--xid', '742', '--timeline', '2'], { target: { xid: '742' }, timeline: 2 }],
  [['--lsn', '0/1', '--timeline', '4294967295'], { target: { lsn: '0/1' }, timeline: 4_294_967_295 }],
  [['--name', 'v2'], { target: { name: 'v2' } }],
  [[], undefined],
])('%j', (args, aim) => {
  expect(aimOf(parse(...args))).toEqual(aim);
});

test('two points at once are refused', () => {
  expect(() => aimOf(parse('--at', 'latest', '--xid', '7'))).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

test.each([
  ['--to-volume', 'x'],
  ['--timeline', '2'],
])('%s without a point is refused: it would change the live server', (...args) => {
  expect(() => aimOf(parse(...args))).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

test.each([
  ['--name', ''],
  ['--name', 'x'.repeat(64)],
  ['--lsn', '3000060'],
  ['--lsn', "0/1'; --"],
  ['--xid', '-1'],
  ['--xid', '0'],
  ['--timeline', '0'],
  ['--at', '2026-11-20 14:30'],
])('%s %s is refused', (option, value) => {
  expect(() => parse(option, value)).toThrow();
});

test('a restore from the snapshot of a point has the other options', () => {
  expect(withoutAim(parse('--xid', '7', '--timeline', '1', '--to-volume', 'x'))).toEqual({ toVolume: 'x' });
});

test.each(['30s', '-30s', '30 seconds ago'])('--at %s is 30 seconds before now', (value) => {
  const before = Date.now();
  const aim = aimOf(parse('--at', value)) as { target: { date: Date } };
  expect(aim.target.date.getTime()).toBeGreaterThanOrEqual(before - 30_000);
  expect(aim.target.date.getTime()).toBeLessThanOrEqual(Date.now() - 30_000);
});
