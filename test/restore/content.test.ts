import { expect, test } from 'vitest';
import { roomInSpool } from '../../src/restore/content.ts';
import { prepareDump } from '../../src/restore/fetch.ts';
import { previewLines, serviceLines } from '../../src/restore/preview.ts';
import { NO_SERVICES, type Services } from '../../src/restore/services.ts';

test('a restore that does not fit into the spool is refused', async () => {
  // The file system of /proc never has free space.
  await expect(roomInSpool({ directory: '/proc' }, { bytes: 1, files: 1 })).rejects.toMatchObject({
    code: 'SPOOL_FULL',
    message: 'the spool has 0 B free, and the restore needs 4.0 KiB there',
    hint: expect.stringMatching(/\/spool.*Nothing was changed\.$/),
  });
  expect(await roomInSpool({ directory: '/proc' }, { bytes: 0, files: 0 })).toEqual({ needed: 0, free: 0 });
  expect(await roomInSpool({ directory: '/' }, { bytes: 1000, files: 2 })).toMatchObject({ needed: 9192 });
});

test('a dump that does not fit into a directory is refused, also if the directory does not exist yet', async () => {
  const of = (directory: string, bytes: number) =>
    prepareDump({ directory, context: { entry: { bytes } } } as unknown as Parameters<typeof prepareDump>[0]);
  await expect(of('/proc/no/such/directory', 1)).rejects.toMatchObject({
    code: 'TREE_TARGET_FULL',
    message: '/proc/no/such/directory has 0 B free, and the dump needs 1 B there',
  });
  const { preview } = await of('/no/such/directory', 1);
  expect(preview.space).toMatchObject({ where: '/no/such/directory', needed: 1 });
});

test('the preview of a restore says how much it needs in the spool', () => {
  const request = { dryRun: false, safety: false, source: 'db.postgres', live: false };
  const preview = {
    ...{ replaces: [], creates: ['app'], left: [], notes: [], bytes: 2048 },
    ...{ space: { where: 'shop-db-1', needed: 8192, free: undefined }, spool: { needed: 6144, free: 1024 ** 3 } },
  };
  expect(previewLines(request, preview, NO_SERVICES).at(-1)?.trim()).toMatch(
    /^reads +at most 2\.0 KiB · needs 8\.0 KiB free in shop-db-1, the free space is not known · needs 6\.0 KiB free in \/spool, has 1\.0 GiB$/,
  );
});

test('the preview speaks of one service, or of several', () => {
  const services = (...names: string[]) => ({ ...NO_SERVICES, using: names.map((name) => ({ name })) }) as Services;
  expect(serviceLines(services('web'), { will: 'will' })[0]).toContain('web (it uses the data), and start it again');
  expect(serviceLines(services('a', 'b'), { will: 'will' })[0]).toContain('a, b (they use the data), and start them');
});
