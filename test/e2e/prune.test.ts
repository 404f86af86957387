import { createHash } from 'node:crypto';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLocalDestination } from '../../src/destinations/local.ts';
import { encodeManifest, type Manifest } from '../../src/store/objects/manifest.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import { holder, postgres, Stack, until } from '../harness/stack.ts';

interface Shown {
  snapshots: number;
  objects: number;
  decisions: { id: string; keep: boolean; sources: Record<string, string[]>; always: string[] }[];
  waiting: { objects: number };
}

const DAY = 86_400_000;
const NIGHTS = 6;

/** Retention of a repository with a history: what is removed and when, and that the rest can be restored. */
describe('pruning', () => {
  let stack: Stack;
  let backups: string;
  /** by id, the contents of web.media */
  const contents = new Map<string, string>();

  const options = {
    services: {
      db: postgres(17),
      web: holder(['media:/app/media'], { 'lifeboat.volumes': 'media', 'lifeboat.keep': '2d' }),
    },
    volumes: { media: {}, restored: {} },
    env: { LIFEBOAT_KEEP: '3d' },
    agent: { volumes: ['restored:/restored'] },
  };

  beforeAll(async () => {
    // Another night would begin at midnight.
    const left = DAY - (Date.now() % DAY);
    if (left < 400_000) await sleep(left + 1000);
    stack = await Stack.start(options);
    backups = path.join(stack.directory, 'backups');
    await stack.psql('CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 1000) i');
    for (let night = 0; night < NIGHTS; night++) {
      // Incompressible, so that each night has a pack of its own.
      const made = await stack.exec('web', [
        'sh',
        '-c',
        'cd /app/media && rm -f night-* && head -c 300000 /dev/urandom > night-$1 && [ -e base ] || head -c 300000 /dev/urandom > base; sha256sum base night-$1',
        'sh',
        String(night),
      ]);
      const { code, report, stderr } = await stack.backup('db.postgres', 'web.media');
      expect(code, stderr).toBe(0);
      contents.set(report.id, made);
    }
    await age(NIGHTS);
    await stack.json('accept', 'destination');
  });
  afterAll(() => stack?.destroy());

  /** Changes ids, times and chain of the snapshots to the last nights, one a day. Objects stay unchanged. */
  async function age(nights: number) {
    const destination = createLocalDestination({ root: backups });
    const { snapshots } = await (
      await openRepository(destination, { project: stack.project, create: false, keys: {} })
    ).snapshots();
    expect(snapshots).toHaveLength(nights);
    let previous: string | null = null;
    // A list of packs may be in the directory of an earlier snapshot.
    const ids = new Map<string, string>();
    const move = (key: string) =>
      key.replace(/(?<=\/snapshots\/)[^/]+/, (id) => ids.get(id) ?? expect.fail(`${id} is newer`));
    for (const [i, { manifest }] of snapshots.toReversed().entries()) {
      const time = new Date(Date.now() - (nights - i) * DAY).toISOString();
      const id = `${time.slice(0, 19).replaceAll(/[-:]/g, '')}Z-${manifest.id.slice(-6)}`;
      ids.set(manifest.id, id);
      const at = (one: string) => path.join(backups, stack.project, 'snapshots', one);
      const bytes: Buffer = encodeManifest(moved(manifest, { id, start: time, end: time, previous }, move));
      await cp(at(manifest.id), at(id), { recursive: true, preserveTimestamps: true });
      await rm(at(manifest.id), { recursive: true });
      await writeFile(path.join(at(id), 'manifest.json'), bytes, { mode: 0o600 });
      previous = createHash('sha256').update(bytes).digest('hex');
      contents.set(id, contents.get(manifest.id) ?? '');
      contents.delete(manifest.id);
    }
  }

  function moved(manifest: Manifest, over: Partial<Manifest>, move: (key: string) => string): Manifest {
    const sources = Object.entries(manifest.sources).map(([name, entry]) => {
      const refs = Object.fromEntries(
        (['index', 'facts', 'packs'] as const).flatMap((part) => {
          const ref = entry[part];
          return ref ? [[part, { ...ref, key: move(ref.key) }]] : [];
        }),
      );
      return [name, { ...entry, ...refs }];
    });
    return { ...manifest, ...over, sources: Object.fromEntries(sources) as Manifest['sources'] };
  }

  const prune = (...args: string[]) => stack.json<Shown>('prune', ...args);
  const nightIds = () => [...contents.keys()].sort();
  const manifests = async () =>
    (await stack.objects()).filter((key) => key.endsWith('/manifest.json')).map((key) => key.split('/')[2] ?? '');
  const packs = async () => (await stack.objects()).filter((key) => key.includes('/packs/web.media/'));

  async function expectWhole() {
    const { code, stdout, stderr } = await stack.lifeboat('check', '--read-data');
    expect(code, stdout + stderr).toBe(0);
  }

  /** Moves the times in the list of unreferenced objects back. */
  async function letTimePass(ms: number) {
    const lists = (await stack.objects()).filter((key) => key.includes('/unreferenced/'));
    expect(lists).toHaveLength(1);
    const file = path.join(backups, lists[0] as string);
    const list = JSON.parse(await readFile(file, 'utf8')) as { objects: Record<string, string> };
    for (const key of Object.keys(list.objects)) {
      list.objects[key] = new Date(Date.parse(list.objects[key] as string) - ms).toISOString();
    }
    await writeFile(file, JSON.stringify(list));
  }

  it('reports for each snapshot whether it stays and why, and a dry run changes nothing', async () => {
    await expectWhole();
    const before = await stack.objects();
    const { code, stdout } = await stack.lifeboat('prune', '--dry-run');
    expect(code).toBe(0);
    const ids = nightIds();
    const lines = stdout.split('\n');
    const line = (id: string | undefined) => lines.find((one) => one.startsWith(id as string));
    expect(line(ids[5])).toMatch(
      / keep .*newest good of db\.postgres · daily \d{4}-\d\d-\d\d · newest good of web\.media$/,
    );
    expect(line(ids[3])).toMatch(/ keep .*daily \d{4}-\d\d-\d\d \(db\.postgres\)$/);
    expect(line(ids[2])).toMatch(/ remove .*no source needs it \(db\.postgres, web\.media\)/);
    expect(stdout).toContain('3 snapshots would be removed, 3 snapshots kept');
    expect(await stack.objects()).toEqual(before);
  });

  it('pins and unpins a snapshot', async () => {
    const [oldest = '', second = ''] = nightIds();
    expect((await stack.lifeboat('pin', oldest, '--reason', 'before deploy 4.2')).code).toBe(0);
    const { decisions } = await prune('--dry-run');
    expect(decisions.find(({ id }) => id === oldest)).toMatchObject({
      keep: true,
      always: ['pinned: before deploy 4.2'],
    });
    expect((await stack.lifeboat('snapshots')).stdout).toContain('pinned');
    expect((await stack.lifeboat('unpin', second)).code).toBe(4);
    const unknown = await stack.lifeboat('pin', '20200101T000000Z-000000', '--json');
    expect(unknown.code).toBe(4);
    expect(JSON.parse(unknown.stdout)).toMatchObject({ error: { code: 'SNAPSHOT_UNKNOWN' } });
  });

  it('damages nothing if it is killed, and the next prune continues', async () => {
    const foreign = path.join(backups, stack.project, 'packs', 'README');
    await mkdir(path.dirname(foreign), { recursive: true });
    await writeFile(foreign, 'not ours');
    // It waits inside the container. A kill from outside would mostly come too late.
    const killed = stack.exec('lifeboat', ['sh', '-c', KILL_AT_TOMBSTONE]);
    killed.catch(() => undefined);
    await until('it waits', async () => await stack.exec('lifeboat', ['ls', '/tmp']).then((all) => /waits/.test(all)));
    const child = stack.spawn('prune');
    const ended = new Promise((resolve) => child.once('close', resolve));
    await killed;
    expect(await ended).toBe(137);
    await expectWhole();
    const next = await stack.lifeboat('prune');
    expect(next.code, next.stderr).toBe(0);
    expect(await manifests()).toEqual([0, 3, 4, 5].map((night) => nightIds()[night]));
    await expectWhole();
    expect(await packs()).toHaveLength(NIGHTS);
  });

  it('deletes packs in a second pass, a day later; the remaining snapshots can be restored', async () => {
    await letTimePass(DAY - 3_600_000);
    expect((await prune()).objects).toBe(0);
    await letTimePass(3_600_000);
    const second = await prune();
    expect(second).toMatchObject({ snapshots: 0, waiting: { objects: 0 } });
    expect(second.objects).toBeGreaterThan(0);
    expect(await packs()).toHaveLength(NIGHTS - 2);
    expect(await readFile(path.join(backups, stack.project, 'packs', 'README'), 'utf8')).toBe('not ours');
    await expectWhole();
    for (const id of await manifests()) {
      const target = `/restored/${id}`;
      const { code, stderr } = await stack.lifeboat('restore', id, 'web.media', '--to-directory', target, '--yes');
      expect(code, stderr).toBe(0);
      const sums = (contents.get(id) ?? '')
        .trim()
        .split('\n')
        .map((one) => one.split(/\s+/)) as [string, string][];
      const input = sums.map(([sum, name]) => `${sum}  ${target}/${name}`).join('\n');
      await stack.exec('lifeboat', ['sha256sum', '--check', '--quiet'], `${input}\n`);
    }
    const database = await stack.lifeboat(
      'restore',
      nightIds()[3] as string,
      'db.postgres',
      '--database',
      'postgres',
      '--to-database',
      'then',
      '--yes',
    );
    expect(database.code, database.stderr).toBe(0);
    expect(await stack.psql('SELECT count(*) FROM t', { database: 'then' })).toBe('1000');
    await stack.psql('DROP DATABASE "then"');
  });

  it('happens after a run, but not after a run of some sources; typos in other labels do not prevent it', async () => {
    await stack.lifeboat('unpin', nightIds()[0] as string);
    const part = await stack.backup('web.media');
    expect(part.report.pruned).toBeUndefined();
    const typos = { 'lifeboat.volumes': 'notes', 'lifeboat.keep': '2 weekz', 'lifeboat.schedule': '0 3 * *' };
    const typo = holder(['notes:/notes'], typos);
    await stack.write({
      ...options,
      services: { ...options.services, typo },
      volumes: { ...options.volumes, notes: {} },
    });
    await stack.compose('up', '--detach', '--no-deps', 'typo');
    await stack.exec('typo', ['sh', '-c', 'echo note >/notes/file']);
    const { code, report } = await stack.backup();
    const wrong = report.problems.filter(({ subject }) => subject === 'typo').map((one) => one.code);
    // Wrong labels are ignored, so the settings apply to the source.
    expect({ code, wrong }).toEqual({ code: 3, wrong: ['LABEL_INVALID', 'LABEL_INVALID'] });
    expect(report.results.map(({ name, status }) => `${name} ${status}`)).toContain('typo.notes ok');
    const shown = await stack.lifeboat('status');
    expect(shown.code).toBe(3);
    expect(shown.stdout).toMatch(/! typo: lifeboat\.keep.*\(LABEL_INVALID\)/);
    expect(report.pruned?.snapshots).toBeGreaterThanOrEqual(2);
    await stack.compose('rm', '--stop', '--force', 'typo');
    expect((await stack.lifeboat('accept', 'typo.notes')).code).toBe(0);
    const left = await manifests();
    expect(nightIds().filter((id) => left.includes(id))).toEqual(nightIds().slice(4));
    await expectWhole();
  });

  it('keeps the snapshot before a drop until a user accepts the drop', async () => {
    const before = (await stack.backup()).report.id;
    await stack.psql('DELETE FROM t WHERE i > 10');
    const after = await stack.backup();
    expect(after.report.results.find(({ name }) => name === 'db.postgres')).toMatchObject({
      ...{ status: 'ok', fell: { why: expect.arrayContaining([expect.stringContaining('fell by')]) } },
    });
    await stack.backup();
    const why = async () =>
      (await prune('--dry-run')).decisions.find(({ id }) => id === before)?.sources['db.postgres'];
    expect(await why()).toContain('before the drop of db.postgres');
    const status = await stack.lifeboat('status');
    expect(status.code).toBe(3);
    expect(status.stdout).toMatch(
      new RegExp(
        `db\\.postgres: .*fell by .*\n.*lifeboat restore ${before} db\\.postgres.*lifeboat accept db\\.postgres`,
      ),
    );
    expect((await stack.lifeboat('accept', 'db.postgres')).code).toBe(0);
    expect(await why()).not.toContain('before the drop of db.postgres');
    expect((await stack.lifeboat('status')).code).toBe(0);
  });

  it('keeps all packs while a manifest cannot be read, until a user gives that snapshot up', async () => {
    const [id, other] = (await manifests()) as [string, string];
    const file = path.join(backups, stack.project, 'snapshots', id, 'manifest.json');
    await writeFile(file, (await readFile(file)).subarray(0, 50));
    const doubtful = await stack.lifeboat('prune', '--json');
    expect(doubtful.code).toBe(3);
    expect(JSON.parse(doubtful.stdout)).toMatchObject({ unreadable: { snapshots: [id] } });
    const readable = await stack.lifeboat('forget', other, '--unreadable', '--yes');
    expect({ code: readable.code, stderr: readable.stderr }).toMatchObject({ code: 2 });
    expect((await stack.lifeboat('forget', id, '--unreadable', '--dry-run')).code).toBe(0);
    expect((await stack.lifeboat('forget', id, '--unreadable')).stderr).toContain('NOT_CONFIRMED');
    expect(await manifests()).toContain(id);
    const forgotten = await stack.lifeboat('forget', id, '--unreadable', '--yes');
    expect(forgotten.code, forgotten.stderr).toBe(0);
    expect(await manifests()).not.toContain(id);
    const check = await stack.lifeboat('check');
    expect(check.code, check.stdout + check.stderr).toBe(0);
    const pruned = await stack.lifeboat('prune', '--json');
    expect(pruned.code).toBe(0);
    expect(JSON.parse(pruned.stdout)).not.toHaveProperty('unreadable');
  });
});

/** Finds the process that prunes, and kills it as soon as the first tombstone is written. */
const KILL_AT_TOMBSTONE = `touch /tmp/waits; pid=
  while [ -z "$pid" ]; do
    for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep -q 'cli[.]js prune' && pid=\${p#/proc/}; done
  done 2>/dev/null
  until set -- /backups/*/tombstones/*.json; [ -e "$1" ] || [ ! -e /proc/$pid ]; do :; done
  kill -9 $pid`;
