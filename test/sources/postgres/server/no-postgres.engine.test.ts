import { expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import type { PostgresSource } from '../../../../src/plan/model.ts';
import { explainPrograms } from '../../../../src/sources/postgres/server/connect.ts';
import { mayBeStarting } from '../../../../src/sources/postgres/server/when-up.ts';
import { useBench } from '../../../docker/containers.ts';

const bench = useBench();
const refused = new LifeboatError('PG_UNREACHABLE', 'the server does not answer');

function explain(id: string) {
  const source = { containerName: 'shop-bad-1' } as PostgresSource;
  const signal = new AbortController().signal;
  return explainPrograms(refused, { engine: bench.engine, helper: { id }, source, signal });
}

test('a container whose image has no Postgres is no server that starts', async () => {
  const error = await explain(await bench.start({ image: 'alpine:3' }));
  expect(error).toMatchObject({
    code: 'PG_UNREACHABLE',
    message: 'the image of container shop-bad-1 has no Postgres programs',
    hint: expect.stringContaining('Is the label lifeboat.postgres on the right service?'),
    cause: refused,
  });
  expect([mayBeStarting(error), mayBeStarting(refused)]).toEqual([false, true]);
});

test.each(['postgres:17-alpine', 'postgres:18'])(
  '%s has its programs, so its server may be starting',
  async (image) => {
    expect(await explain(await bench.start({ image }))).toBe(refused);
  },
);

test('a container that cannot be inspected may be starting', async () => {
  expect(await explain('0'.repeat(64))).toBe(refused);
});
