import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { holder, ok, postgres, Stack } from '../harness/stack.ts';

/** Returns the output of `find` for a tree: everything that a restore must preserve, except content. */
const LISTING = ['find', '.', '-printf', '%P|%y|%m|%U:%G|%T@|%l\\n'];

/** Runs the script of docs/restore-without-lifeboat.md on a repository of the agent. */
describe('restoring without Lifeboat', () => {
  let stack: Stack;
  let directory: string;
  let snapshot: string;

  beforeAll(async () => {
    directory = await mkdtemp(path.join(tmpdir(), 'format-'));
    const page = await readFile(new URL('../../docs/restore-without-lifeboat.md', import.meta.url), 'utf8');
    await writeFile(path.join(directory, 'restore.sh'), /```sh\n(.*?)```/s.exec(page)?.[1] ?? '');
    stack = await Stack.start({
      services: {
        db: postgres(17, { environment: { POSTGRES_DB: 'app' } }),
        web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }),
      },
      volumes: { media: {} },
      receiver: false,
    });
    await stack.psql(
      `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 5000) i;
       CREATE VIEW w AS SELECT count(*) FROM t; SELECT lo_from_bytea(4711, 'large');`,
      { database: 'app' },
    );
    await stack.exec('web', ['bash', '-s'], MAKE_TREE);
    const { report } = await stack.backup();
    expect(report.status, JSON.stringify(report)).toBe('ok');
    snapshot = report.snapshot as string;
  });
  afterAll(async () => {
    await stack?.destroy();
    await rm(directory, { recursive: true, force: true });
  });

  const restoreWithScript = async (
    source: string,
    { from = snapshot, only }: { from?: string; only?: string } = {},
  ) => {
    const target = path.join(directory, `${source}-${from}-${only === undefined ? 'all' : 'part'}`);
    const script = path.join(directory, 'restore.sh');
    const operands = [path.join(stack.directory, 'backups'), stack.project, from, source, target];
    await ok('sh', [script, ...operands, ...(only === undefined ? [] : [only])]);
    return target;
  };

  it('restores one file, with its directories, from the latest snapshot', async () => {
    const target = await restoreWithScript('web.media', { from: 'latest', only: 'a/file' });
    expect(await ok('find', ['.', '-type', 'f'], { cwd: target })).toBe('./a/file\n');
    const hash = ['sha256sum', 'a/file'];
    expect(await ok('sha256sum', ['a/file'], { cwd: target })).toBe(
      await stack.exec('web', ['sh', '-c', `cd /media && ${hash.join(' ')}`]),
    );
    await expect(restoreWithScript('web.media', { only: 'no/such' })).rejects.toThrow('no no/such in web.media');

    // A newer partial snapshot does not count as the latest.
    const newer = path.join(stack.directory, 'backups', stack.project, 'snapshots', '29990101T000000Z-ffffff');
    await mkdir(newer);
    const partial = { trigger: 'schedule', sources: { 'web.media': { status: 'partial' } } };
    await writeFile(path.join(newer, 'manifest.json'), JSON.stringify(partial));
    await rm(target, { recursive: true });
    await restoreWithScript('web.media', { from: 'latest', only: 'a/file' });
    await rm(newer, { recursive: true });
  });

  it('restores a media tree', async () => {
    const target = await restoreWithScript('web.media');
    const listing = async (text: Promise<string>) => (await text).split('\n').sort().join('\n');
    const there = ['sh', '-c', 'cd /media && "$@"', 'sh'];
    expect(await listing(ok(LISTING[0] as string, LISTING.slice(1), { cwd: target }))).toBe(
      await listing(stack.exec('web', [...there, ...LISTING])),
    );
    const hashes = ['sh', '-c', 'find . -type f -print0 | sort -z | xargs -0 sha256sum'];
    expect(await ok('sh', hashes.slice(1), { cwd: target })).toBe(await stack.exec('web', [...there, ...hashes]));
    expect((await ok('find', ['.', '-samefile', './a/file'], { cwd: target })).split('\n').sort()).toEqual([
      '',
      './a/file',
      './hard',
    ]);
  });

  it('restores a dump that pg_restore lists and loads', async () => {
    const target = await restoreWithScript('db.postgres');
    await ok('docker', ['cp', `${target}/databases/app`, `${await stack.id('db')}:/app-dump`]);
    expect(await stack.exec('db', ['pg_restore', '--list', '/app-dump'])).toMatch(/TABLE DATA public t postgres/);
    await stack.exec('db', ['createdb', '-U', 'postgres', '-T', 'template0', 'by_hand']);
    await stack.exec('db', [
      'pg_restore',
      '-U',
      'postgres',
      '-d',
      'by_hand',
      '--exit-on-error',
      '-j',
      '2',
      '/app-dump',
    ]);
    const content = "SELECT count(*), md5(string_agg(v, ',' ORDER BY id)), lo_get(4711) FROM t";
    expect(await stack.psql(content, { database: 'by_hand' })).toBe(await stack.psql(content, { database: 'app' }));
    expect(await readFile(path.join(target, 'globals.sql'), 'utf8')).toContain('ALTER ROLE postgres');
  });
});

const MAKE_TREE = `
set -e
cd /media
mkdir -p a/b "with blank" $'new\\nline' 'per%cent [x]*?' empty
head -c 3000000 /dev/urandom > a/b/big
# Stored in parts: in several packs, compressed, and with holes.
head -c 80000000 /dev/urandom > a/large && ln a/large "with blank/large too"
seq 1 2000000 > $'new\\nline/text'
truncate -s 300M a/sparse && for at in 0 100 299; do head -c 1000000 /dev/urandom | dd of=a/sparse bs=1M seek=$at conv=notrunc status=none; done
echo content > a/file && ln a/file hard && ln -s ../a/file "with blank/soft" && ln -s /nowhere dangling
for i in $(seq 1 200); do echo "file $i" > "with blank/$i.txt"; done
echo x > $'new\\nline/\\xff not utf-8' && echo y > 'per%cent [x]*?/-f' && : > empty/zero
chmod 4750 a/file && chmod 000 a/b/big && chown -R 1234:55 'with blank' && chown -h 77:88 dangling
touch -d '1999-12-31 23:59:59.123456789' a/b/big && touch -d '2040-01-01' empty && touch -h -d '1970-01-01 00:00:01' dangling
chmod 1777 empty && chmod 750 .
`;
