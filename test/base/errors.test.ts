import { describe, expect, test } from 'vitest';
import { errorInfo, hasErrno, isDiskError, isSystemError, LifeboatError } from '../../src/base/errors.ts';

/** An error of the operating system as Node throws it if it has no name for the number. */
const unnamed = (errno: number) =>
  Object.assign(new Error(`Unknown system error ${errno}: read`), { errno, code: `Unknown system error ${errno}` });

describe('errors of the operating system', () => {
  test('are recognised by name, also those that Node does not name', () => {
    expect(hasErrno(Object.assign(new Error('x'), { code: 'ENOENT', errno: -2 }), 'EACCES', 'ENOENT')).toBe(true);
    expect(hasErrno(unnamed(-122), 'ENOSPC', 'EDQUOT')).toBe(true);
    expect(hasErrno(unnamed(-116), 'ESTALE')).toBe(true);
    expect(hasErrno(unnamed(-116), 'EDQUOT')).toBe(false);
    expect(hasErrno({ code: 'ENOENT' }, 'ENOENT')).toBe(false);
    expect(hasErrno(new Error('x'), 'ENOENT')).toBe(false);
  });

  test('of a disk are bad sectors and wrong checksums', () => {
    for (const errno of [-74, -117]) expect(isDiskError(unnamed(errno))).toBe(true);
    expect(isDiskError(unnamed(-116))).toBe(false);
  });

  test('are distinguished from errors of Lifeboat', () => {
    expect(isSystemError(unnamed(-117))).toBe(true);
    expect(isSystemError(new LifeboatError('OBJECT_DAMAGED', 'x'))).toBe(false);
  });
});

test('the description of an error has each cause once, and the hint', () => {
  const cause = new Error('first', { cause: new Error('second', { cause: new Error('first') }) });
  expect(errorInfo(new LifeboatError('OBJECT_DAMAGED', 'broken', { cause, hint: 'do this' }))).toEqual({
    ...{ code: 'OBJECT_DAMAGED', message: 'broken', hint: 'do this', cause: 'first: second' },
  });
});
