import { expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import type { Call } from '../../src/commands/call.ts';
import { prune } from '../../src/commands/prune.ts';

test('an interrupted prune prints what was pruned, and ends with 130', async () => {
  const stop = new AbortController();
  const error = { code: 'INTERRUPTED', message: 'the run was asked to stop' };
  const places = [
    { destination: 'main', result: { decisions: [] } },
    { destination: 'copy', error },
  ];
  let printed = '';
  const status = await prune({
    app: {
      settings: { timeZone: 'UTC' },
      async prune() {
        stop.abort(new LifeboatError('INTERRUPTED', error.message));
        return places;
      },
    },
    ...{ operands: [], options: {}, json: true },
    io: { out: (text: string) => (printed += text), signal: stop.signal },
  } as unknown as Call);
  expect(status).toBe(130);
  expect(JSON.parse(printed)).toMatchObject({ destination: 'main', copies: [{ destination: 'copy', error }] });
});
