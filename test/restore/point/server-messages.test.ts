import { expect, test } from 'vitest';
import { Messages } from '../../../src/restore/point/server-messages.ts';

const MIB = 1024 * 1024;
const after = (...lines: string[]) => {
  const messages = new Messages(() => undefined);
  messages.add(Buffer.from(lines.map((line) => `${line}\n`).join('')));
  return messages;
};

test('a recovery that ended inside the stored WAL is refused, and one that ended near its end is not', () => {
  const messages = after('LOG:  redo done at 0/3000148 system usage: CPU: user: 0.01 s');
  expect(() => messages.refuseShort(undefined, '0/3000180', 16 * MIB)).not.toThrow();
  // A segment that the server left early follows.
  expect(() => messages.refuseShort(undefined, '0/5000000', 16 * MIB)).not.toThrow();
  expect(() => messages.refuseShort(undefined, '0/9000000', 16 * MIB)).toThrow(
    expect.objectContaining({ code: 'PG_RESTORE_FAILED', message: expect.stringContaining('0/3000148') }),
  );
});

test('a recovery that ended before the last record is refused, however close to the end that is', () => {
  const messages = after('LOG:  redo done at 0/3000148 system usage: CPU: user: 0.01 s');
  expect(() => messages.refuseShort(0x3000148n, '0/5000000', 16 * MIB)).not.toThrow();
  expect(() => messages.refuseShort(0x3000150n, '0/3000180', 16 * MIB)).toThrow(/to 0\/3000148, and not to 0\/3000150/);
});

test('a server that had nothing to replay says nothing about it', () => {
  expect(() => after('LOG:  redo is not required').refuseShort(undefined, '0/9000000', MIB)).not.toThrow();
});

test('a target that was not reached is distinguished from a failure', () => {
  const early = 'FATAL:  recovery ended before configured recovery target was reached';
  expect(after(early).outcome(false)).toBe('ended early');
  expect(() => after('FATAL:  could not open file').outcome(false)).toThrow(/could not open file/);
});
