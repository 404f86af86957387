import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { silentLog } from '../../../../src/base/log.ts';
import type { Mount } from '../../../../src/plan/model.ts';
import { freeDataSpace, walDisk } from '../../../../src/sources/postgres/facts/disk.ts';
import { sharesMount } from '../../../../src/sources/postgres/server/helper-mounts.ts';
import type { Tools } from '../../../../src/sources/postgres/server/tools.ts';

const DATA = '/var/lib/postgresql/data';
const { signal } = new AbortController();
const mount = (destination: string, type = 'volume'): Mount => ({ type, source: '', destination, writable: true });

/** Plays a container that has a directory `pg_wal`, or a link, and a helper that sees the mount of the data. */
function toolsWith(mounts: Mount[], links: Record<string, string> = {}): Tools {
  const engine = {
    async archive(_id: string, path: string) {
      const target = links[path];
      if (target === '') {
        const cause = Object.assign(new Error('no'), { statusCode: 403 });
        throw new LifeboatError('ENGINE_REFUSED', 'a proxy says no', { cause });
      }
      const header = Buffer.alloc(512);
      header.write(target === undefined ? '5' : '2', 156);
      header.write(target ?? '', 157);
      return Readable.from([header]);
    },
  };
  const source = { containerId: 'c', mounts };
  return {
    ...{ log: silentLog, run: async () => 'head\n/dev/sda 1000 200 800 20% /data' },
    control: async () => ({ one: async () => ({ directory: DATA }) }),
    sharesMount: (file: string, directory: string) => sharesMount({ engine, source }, file, directory, signal),
  } as unknown as Tools;
}

test('the space for WAL is that of the data, if both are in one mount', async () => {
  const known = { total: 1_024_000, free: 819_200 };
  expect(await walDisk(toolsWith([mount(DATA)]), signal)).toEqual(known);
  // Both are in the layer of the container.
  expect(await walDisk(toolsWith([]), signal)).toEqual(known);
  const link = { [`${DATA}/pg_wal`]: '../wal' };
  expect(await walDisk(toolsWith([mount('/var/lib/postgresql')], link), signal)).toEqual(known);
});

test.each<[string, Mount[], Record<string, string>]>([
  ['a mount of its own', [mount(DATA), mount(`${DATA}/pg_wal`)], {}],
  ['a tmpfs', [mount(`${DATA}/pg_wal`, 'tmpfs')], {}],
  ['a link to another mount', [mount(DATA), mount('/wal')], { [`${DATA}/pg_wal`]: '/wal/main' }],
  ['a link out of the mount', [mount(DATA)], { [`${DATA}/pg_wal`]: '/wal' }],
  ['not shown by a proxy', [mount(DATA)], { [`${DATA}/pg_wal`]: '' }],
])('the space for WAL is unknown, if pg_wal is %s', async (_, mounts, links) => {
  const tools = toolsWith(mounts, links);
  expect(await walDisk(tools, signal)).toBeUndefined();
  expect(await freeDataSpace(tools, signal)).toBe(819_200);
});
