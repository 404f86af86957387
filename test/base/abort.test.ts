import { expect, test } from 'vitest';
import { aborted, onAbort, unlessAborted } from '../../src/base/abort.ts';

test('a listener is called once, at once if the signal has aborted already, and never after it was removed', () => {
  const called: string[] = [];
  const stop = new AbortController();
  onAbort(stop.signal, () => called.push('first'));
  const forget = onAbort(stop.signal, () => called.push('forgotten'));
  onAbort(undefined, () => called.push('without a signal'));
  forget();
  stop.abort();
  expect(called).toEqual(['first']);
  onAbort(stop.signal, () => called.push('late'))();
  expect(called).toEqual(['first', 'late']);
});

test('an abort ends a wait for work that ignores the signal', async () => {
  const stop = new AbortController();
  const left = unlessAborted(new Promise(() => {}), stop.signal);
  const reason = new Error('enough');
  stop.abort(reason);
  await expect(left).rejects.toBe(reason);
  await aborted(stop.signal);
  await expect(unlessAborted(Promise.resolve(1), new AbortController().signal)).resolves.toBe(1);
});
