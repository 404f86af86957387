import { expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import {
  ofOne,
  type Part,
  refuseBeyondSpool,
  refuseSharedVolumes,
  type Whole,
} from '../../../src/restore/all/parts.ts';

const MIB = 1024 ** 2;
const part = (source: string, needed?: number, creates = ['x']): Part =>
  ({
    request: { source, snapshot: 'latest', from: 's3://b/p?region=eu' },
    opened: { start: { snapshot: 'ID' } },
    prepared: {
      preview: { replaces: [], creates, ...(needed === undefined ? {} : { spool: { needed, free: 100 * MIB } }) },
    },
  }) as unknown as Part;

test('a source that does not fit into the spool together with others is left out, and no other is', () => {
  const parts = [
    part('a.postgres', 60 * MIB),
    part('b.postgres', 50 * MIB),
    part('c.media'),
    part('d.postgres', 90 * MIB, []),
    part('e.postgres', 40 * MIB),
  ];
  const whole = { parts, failed: [] } as unknown as Whole;
  refuseBeyondSpool(whole);
  expect(whole.failed).toEqual([
    {
      target: 'b.postgres',
      error: {
        code: 'SPOOL_FULL',
        message:
          'the spool has 100 MiB free, and the restore of b.postgres after the sources before it needs 110 MiB there',
        hint: expect.stringContaining("`lifeboat restore ID b.postgres --from 's3://b/p?region=eu'`"),
      },
    },
  ]);
});

test('sources that share a volume are refused, each with the command that restores it', () => {
  const target = { kind: 'volume', mount: { name: 'shop_media', source: '/v' } };
  const parts = ['app.media', 'web.media'].map((source) => {
    const one = part(source);
    Object.assign(one.prepared.preview, { target });
    return one;
  });
  const whole = { parts, failed: [] } as unknown as Whole;
  refuseSharedVolumes(whole);
  expect(whole.failed.map(({ error }) => error.hint)).toEqual(
    ['app.media', 'web.media'].map((source) =>
      expect.stringContaining(`\`lifeboat restore ID ${source} --path '**' --from 's3://b/p?region=eu'\``),
    ),
  );
});

test('an interruption after a volume was half restored does not hide that: its services stay stopped', async () => {
  const half = new LifeboatError('TREE_HALF_RESTORED', 'neither old nor new');
  const signal = AbortSignal.abort(new LifeboatError('INTERRUPTED', 'the run was asked to stop'));
  const whole = { parts: [], failed: [], half, request: { signal } } as unknown as Whole;
  await expect(ofOne(whole, 'web.media', async () => undefined)).rejects.toBe(half);
});
