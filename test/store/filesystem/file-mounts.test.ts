import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { findFileMounts, pathInFileSystem } from '../../../src/store/filesystem/file-mounts.ts';
import { scratchBase } from '../helpers.ts';

/** The tree of a source, which is `/srv/app/data` on the host. */
let root: string;
beforeEach(() => {
  root = join(realpathSync(mkdtempSync(join(scratchBase, 'lifeboat-mounts-'))), 'data');
  mkdirSync(join(root, 'state'), { recursive: true });
  for (const name of ['app.db', 'state/jobs.db', 'straße.db']) writeFileSync(join(root, name), '');
});
afterEach(() => rmSync(join(root, '..'), { recursive: true, force: true }));

const HOST = '/srv/app/data';
const find = async (paths: string[], views = [{ host: HOST, local: root }]) =>
  [...(await findFileMounts(root, { paths, views }))].sort();

describe('paths of the host in a tree', () => {
  test('are those below its root that exist', async () => {
    const paths = ['app.db', 'state/jobs.db', 'gone.db', 'straße.db'].map((name) => `${HOST}/${name}`);
    const others = [HOST, '/srv/app', '/srv/app/database', '/srv/app/data2/app.db', '/', '/etc/passwd'];
    expect(await find([...paths, ...others])).toEqual(['app.db', 'state/jobs.db', 'stra\u00c3\u009fe.db']);
    expect(await find([`${HOST}/app.db`], [{ host: `${HOST}//`, local: root }])).toEqual(['app.db']);
    expect(await findFileMounts(root)).toEqual(new Set());
  });

  test('lead through symbolic links of the tree, as on the host', async () => {
    symlinkSync('state', join(root, 'current'));
    symlinkSync('app.db', join(root, 'relative.db'));
    symlinkSync(`${HOST}/current/jobs.db`, join(root, 'absolute.db'));
    symlinkSync('../data/app.db', join(root, 'up.db'));
    symlinkSync('/etc/passwd', join(root, 'away.db'));
    symlinkSync('loop.db', join(root, 'loop.db'));
    expect(await find([`${HOST}/current/jobs.db`])).toEqual(['state/jobs.db']);
    expect(await find([`${HOST}/relative.db`])).toEqual(['app.db']);
    expect(await find([`${HOST}/absolute.db`])).toEqual(['state/jobs.db']);
    expect(await find([`${HOST}/up.db`])).toEqual(['app.db']);
    expect(await find([`${HOST}/away.db`, `${HOST}/loop.db`])).toEqual([]);
  });

  test('lead through symbolic links outside of the tree that another mount shows', async () => {
    symlinkSync('data', join(root, '../link'));
    const views = [{ host: '/srv/app', local: join(root, '..') }];
    expect(await find(['/srv/app/link/app.db'], views)).toEqual(['app.db']);
  });

  test('may use the real name of a root whose own path leads through a link or a volume', async () => {
    const elsewhere = [{ host: '/var/lib/docker/volumes/shop_data/_data', local: root }];
    const real = pathInFileSystem('', root);
    expect(await find([`${real}/app.db`, `/mnt${real}/state/jobs.db`], elsewhere)).toEqual(['app.db', 'state/jobs.db']);
    expect(await find([`${real}2/app.db`], elsewhere)).toEqual([]);
  });

  test('do not count where another mount hides them', async () => {
    const views = [
      { host: HOST, local: root },
      { host: '/srv/other', local: join(root, 'state') },
    ];
    expect(await find([`${HOST}/state/jobs.db`], views)).toEqual([]);
    expect(await find(['/srv/other/jobs.db'], views)).toEqual(['state/jobs.db']);
  });

  test('may be in several places of one tree', async () => {
    const views = [
      { host: HOST, local: root },
      { host: HOST, local: join(root, 'again') },
    ];
    mkdirSync(join(root, 'again'));
    writeFileSync(join(root, 'again/app.db'), '');
    expect(await find([`${HOST}/app.db`], views)).toEqual(['again/app.db', 'app.db']);
  });
});

test('the path of a directory in its file system comes from the nearest mount, the last one of several', () => {
  const mountinfo = [
    '22 1 8:1 / / rw - ext4 /dev/sda1 rw',
    '30 22 8:1 /old /source rw - ext4 /dev/sda1 rw',
    '31 22 8:1 /srv/my\\040data /source rw - ext4 /dev/sda1 rw',
    '32 22 8:1 /srv/more /sourcery rw - ext4 /dev/sda1 rw',
    '',
  ].join('\n');
  expect(pathInFileSystem(mountinfo, '/source')).toBe('/srv/my data');
  expect(pathInFileSystem(mountinfo, '/source/a/b')).toBe('/srv/my data/a/b');
  expect(pathInFileSystem(mountinfo, '/elsewhere')).toBe('/elsewhere');
});
