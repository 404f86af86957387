import { expect, test } from 'vitest';
import { aborted, onAbort, unlessAborted } from '../../src/base/abort.ts';

test('what waits for an abort hears of it once, at once where it has been, and not when it was taken back', () => {
  const heard: string[] = [];
  const stop = new AbortController();
  onAbort(stop.signal, () => heard.push('first'));
  const forget = onAbort(stop.signal, () => heard.push('forgotten'));
  onAbort(undefined, () => heard.push('without a signal'));
  forget();
  stop.abort();
  expect(heard).toEqual(['first']);
  onAbort(stop.signal, () => heard.push('late'))();
  expect(heard).toEqual(['first', 'late']);
});

test('an abort ends what does not hear of it', async () => {
  const stop = new AbortController();
  const left = unlessAborted(new Promise(() => {}), stop.signal);
  const reason = new Error('enough');
  stop.abort(reason);
  await expect(left).rejects.toBe(reason);
  await aborted(stop.signal);
  await expect(unlessAborted(Promise.resolve(1), new AbortController().signal)).resolves.toBe(1);
});
