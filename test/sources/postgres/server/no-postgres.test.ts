import { expect, test, vi } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import type { Engine } from '../../../../src/docker/engine.ts';
import { execText } from '../../../../src/docker/exec.ts';
import type { PostgresSource } from '../../../../src/plan/model.ts';
import { explainPrograms } from '../../../../src/sources/postgres/server/connect.ts';
import { mayBeStarting } from '../../../../src/sources/postgres/server/when-up.ts';

vi.mock('../../../../src/docker/exec.ts', async (original) => ({
  ...(await original<typeof import('../../../../src/docker/exec.ts')>()),
  execText: vi.fn(),
}));

const refused = new LifeboatError('PG_UNREACHABLE', 'the server does not answer');
const explain = (stdout: string | Error) => {
  const look = vi.mocked(execText);
  if (stdout instanceof Error) look.mockRejectedValueOnce(stdout);
  else look.mockResolvedValueOnce({ stdout, stderr: '' } as Awaited<ReturnType<typeof execText>>);
  const source = { containerName: 'shop-bad-1' } as PostgresSource;
  const signal = new AbortController().signal;
  return explainPrograms(refused, { engine: {} as Engine, helper: { id: 'h' }, source, signal });
};

test('a container whose image has no Postgres is no server that starts', async () => {
  const error = await explain('none\n');
  expect(error).toMatchObject({
    code: 'PG_UNREACHABLE',
    message: 'the image of container shop-bad-1 has no Postgres programs',
    hint: expect.stringContaining('Is the label lifeboat.postgres on the right service?'),
    cause: refused,
  });
  expect([mayBeStarting(error), mayBeStarting(refused)]).toEqual([false, true]);
});

test('a server that has its programs, or that cannot be inspected, may be starting', async () => {
  expect(await explain('')).toBe(refused);
  expect(await explain(new Error('no sh'))).toBe(refused);
});
