import { createHash } from 'node:crypto';
import { cp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SourceWindows } from '../../src/overview/windows.ts';
import type { DrillReport } from '../../src/report/drill-report.ts';
import type { PointResult } from '../../src/restore/point/restore-point.ts';
import { decodePage, encodePage, type StoredSegment, type WalPage } from '../../src/store/wal/page.ts';
import { ok, postgres, Stack, sh, until } from '../harness/stack.ts';

/** How many transactions the writer makes before and after the point to recover to. */
const BEFORE = 25;
const AFTER = 10;

/** A copied repository to plant a fault in, and the newest page of its WAL. */
interface Planting {
  directory: string;
  file: string;
  page: WalPage;
}

async function newestPage(directory: string, project: string): Promise<Omit<Planting, 'directory'>> {
  const wal = path.join(directory, project, 'wal', 'db.postgres');
  const logs = (await readdir(wal, { recursive: true })).filter((name) => /\/log\/[^/]+\.json$/.test(name)).sort();
  const file = path.join(wal, logs.at(-1) as string);
  return { file, page: decodePage(await readFile(file)) };
}

async function flip(file: string): Promise<void> {
  const bytes = await readFile(file);
  bytes[Math.floor(bytes.length / 2)]! ^= 1;
  await writeFile(file, bytes);
}

const [FIRST, SECOND, LAST] = [-3, -2, -1];
const segmentAt = ({ page }: Planting, at: number) => page.segments.at(at) as StoredSegment;

const WAL_FAULTS: Record<string, (at: Planting) => Promise<void>> = {
  'segment-flipped': (at) => flip(path.join(at.directory, segmentAt(at, SECOND).key)),
  'segment-missing': (at) => rm(path.join(at.directory, segmentAt(at, SECOND).key)),
  'segments-swapped': async (at) => {
    const [first, second] = [FIRST, SECOND].map((one) => path.join(at.directory, segmentAt(at, one).key));
    await rename(first as string, `${first}.away`);
    await rename(second as string, first as string);
    await rename(`${first}.away`, second as string);
  },
  // Only the server itself can find this one.
  'segments-swapped-with-hashes': async (at) => {
    const { key, size, sha256 } = segmentAt(at, FIRST);
    Object.assign(segmentAt(at, SECOND), { key, size, sha256 });
    await writeFile(at.file, encodePage(at.page));
  },
  // The server ends there as it does at the end of the WAL.
  'record-damaged-with-hash': async (at) => {
    const last = segmentAt(at, LAST);
    const file = path.join(at.directory, last.key);
    const wal = zstdDecompressSync(await readFile(file));
    // The checksum of the first record, which follows the header of the segment.
    wal[40 + 20]! ^= 1;
    const bytes = zstdCompressSync(wal);
    await writeFile(file, bytes);
    const reached = new Date(Date.now() + 60_000).toISOString();
    Object.assign(last, { size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex'), reached });
    await writeFile(at.file, encodePage(at.page));
  },
  'base-flipped': async ({ directory, page }) => {
    const packs = path.join(directory, page.project, 'packs', 'db.postgres.base');
    const all = await readdir(packs, { recursive: true, withFileTypes: true });
    for (const pack of all) if (pack.isFile()) await flip(path.join(pack.parentPath, pack.name));
  },
};

/** A stock server with one label is recovered to points in time, to the transaction. */
describe('point-in-time recovery', () => {
  const labels = { 'lifeboat.postgres': 'true', 'lifeboat.postgres.pitr': 'true' };
  let stack: Stack;
  const volumes: string[] = [];
  const servers: string[] = [];

  const windows = async (): Promise<SourceWindows> => {
    const { sources } = await stack.json<{ sources: SourceWindows[] }>('windows', 'db.postgres');
    return sources[0] as SourceWindows;
  };
  /** Resolves when everything that the server has written is stored. */
  const stored = async () => {
    const lsn = await stack.psql('SELECT pg_current_wal_flush_lsn()');
    await stack.untilReceived(lsn);
    await until('the WAL is stored', async () => {
      const { receiver } = await windows();
      return receiver?.state === 'receiving' && (await reached(receiver.confirmed?.lsn, lsn));
    });
  };
  const reached = async (confirmed: string | undefined, lsn: string) =>
    confirmed !== undefined && (await stack.psql(`SELECT '${confirmed}'::pg_lsn >= '${lsn}'::pg_lsn`)) === 't';
  /** Makes transactions one by one. Returns the time by the server's clock after each. */
  const write = async (from: number, count: number): Promise<string[]> => {
    const times: string[] = [];
    for (let n = from; n < from + count; n++) {
      await stack.psql(`INSERT INTO written VALUES (${n})`);
      times.push(await stack.psql('SELECT clock_timestamp()'));
    }
    return times;
  };
  const recover = async (...point: string[]): Promise<PointResult> => {
    const volume = `${stack.project}_then-${volumes.length}`;
    volumes.push(volume);
    const ran = await stack.lifeboatInTurn('restore', 'db.postgres', ...point, '--to-volume', volume, '--json');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    return JSON.parse(ran.stdout) as PointResult;
  };
  /** Starts the image of the database on a recovered volume, as a user does, and returns how to query it. */
  const startOn = async ({ volume, dataDirectory }: PointResult) => {
    const name = `${stack.project}-recovered-${servers.length}`;
    servers.push(name);
    await ok('docker', ['run', '--detach', '--name', name, '--volume', `${volume}:${dataDirectory}`, 'postgres:17']);
    const query = async (sql: string) => {
      const { code, stdout } = await sh('docker', ['exec', name, 'psql', '-U', 'postgres', '-XAtc', sql]);
      return code === 0 ? stdout.trim() : undefined;
    };
    await until('the recovered server answers', () => query('SELECT 1'));
    return query;
  };

  beforeAll(async () => {
    stack = await Stack.start({
      // Its transactions would come after the last one of a test.
      services: { db: postgres(17, { labels, command: ['postgres', '-c', 'fsync=off', '-c', 'autovacuum=off'] }) },
      env: { LIFEBOAT_RPO: '1s', LIFEBOAT_BASE_SCHEDULE: '0 0 1 1 *', LIFEBOAT_COPY: '/copy' },
      agent: { volumes: ['./copy:/copy', './planted:/planted'] },
    });
    await stack.psql('CREATE TABLE written (n int PRIMARY KEY)');
    await stack.untilWindow(async () => (await windows()).windows.length > 0);
  });
  afterAll(async () => {
    for (const name of servers) await sh('docker', ['rm', '--force', '--volumes', name]);
    await stack?.destroy();
    for (const volume of volumes) await sh('docker', ['volume', 'rm', '--force', volume]);
  });

  it('recovers a dropped table as of a time between two transactions, exactly', async () => {
    const times = await write(1, BEFORE);
    await write(BEFORE + 1, AFTER);
    await stack.psql('DROP TABLE written');
    await stored();
    const result = await recover('--at', times.at(-1) as string);
    expect(result.recovered.at).toBe('target');
    const query = await startOn(result);
    expect(await query('SELECT count(*), max(n) FROM written')).toBe(`${BEFORE}|${BEFORE}`);
    // The server in use is as it was.
    expect(await stack.psql("SELECT to_regclass('written') IS NULL")).toBe('t');
  });

  it('restores one database as of that time under another name', async () => {
    await stack.psql('CREATE DATABASE shop');
    await stack.psql('CREATE TABLE orders (n int); INSERT INTO orders SELECT generate_series(1, 7)', {
      database: 'shop',
    });
    const before = await stack.psql('SELECT clock_timestamp()');
    await stack.psql('DROP TABLE orders', { database: 'shop' });
    await stored();
    const args = ['--at', before, '--database', 'shop', '--to-database', 'shop_then'];
    const { code, stdout, stderr } = await stack.lifeboatInTurn('restore', 'db.postgres', ...args);
    expect(code, stdout + stderr).toBe(0);
    expect(await stack.psql('SELECT count(*) FROM orders', { database: 'shop_then' })).toBe('7');
    const table = ['--at', before, '--database', 'shop', '--table', 'public.orders', '--as', 'orders_then', '--yes'];
    const carried = await stack.lifeboatInTurn('restore', 'db.postgres', ...table);
    expect(carried.code, carried.stdout + carried.stderr).toBe(0);
    expect(await stack.psql('SELECT count(*) FROM orders_then', { database: 'shop' })).toBe('7');
    const { stdout: listed } = await stack.lifeboat('snapshots', '--json');
    const { snapshots } = JSON.parse(listed) as { snapshots: { imported?: object }[] };
    const imported = { kind: 'recovery', file: expect.stringMatching(/^recovery to /) };
    const made = snapshots.filter((one) => one.imported);
    expect(made).toMatchObject([1, 2].map(() => ({ trigger: 'import', imported })));
  });

  it('recovers to a transaction, a position and a restore point, each exactly', async () => {
    await stack.psql('CREATE TABLE marks (n int)');
    const xid = await stack.psql('WITH one AS (INSERT INTO marks VALUES (1)) SELECT pg_current_xact_id()');
    await stack.psql('INSERT INTO marks VALUES (2)');
    const lsn = await stack.psql('SELECT pg_current_wal_lsn()');
    // Of two with the same name, the newer one counts.
    for (const n of [3, 4]) {
      await stack.psql(`INSERT INTO marks VALUES (${n})`);
      await stack.psql("SELECT pg_create_restore_point('before the migration')");
    }
    await stack.psql('INSERT INTO marks VALUES (5)');
    await stored();
    const last = async (...point: string[]) => (await startOn(await recover(...point)))('SELECT max(n) FROM marks');
    expect(await last('--xid', xid)).toBe('1');
    expect(await last('--lsn', lsn)).toBe('2');
    expect(await last('--name', 'before the migration')).toBe('4');
    const never = ['restore', 'db.postgres', '--name', 'never', '--database', 'shop', '--to-database', 'never'];
    const { code, stderr } = await stack.lifeboatInTurn(...never);
    expect(code, stderr).toBe(1);
    expect(stderr).toContain('restore point never');
  });

  it('takes the end of the WAL for a time after the last transaction, and for latest', async () => {
    await stack.psql('CREATE TABLE written (n int PRIMARY KEY)');
    await write(1, 3);
    await stored();
    const after = await stack.psql('SELECT clock_timestamp()');
    await until('the window holds the time', async () => {
      const [window] = (await windows()).windows;
      return window && Date.parse(window.to) >= Date.parse(after);
    });
    const result = await recover('--at', after);
    expect(result.recovered.at).toBe('end');
    expect(await (await startOn(result))('SELECT max(n) FROM written')).toBe('3');
  });

  it('proves in a drill that a moment of the window can be recovered', async () => {
    const ran = await stack.lifeboatInTurn('drill', 'db.postgres.base', '--json');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    const { results } = JSON.parse(ran.stdout) as DrillReport;
    expect(results).toMatchObject([{ source: 'db.postgres.base', status: 'ok', image: { recorded: true } }]);
    expect(results[0]?.checks.map(({ name, result }) => `${name}: ${result}`)).toEqual(
      expect.arrayContaining([expect.stringMatching(/^recovered to .*: ok$/), 'amcheck of indexes and tables: ok']),
    );
    const later = new Date(Date.now() + 3_600_000).toISOString();
    // A mistake is refused, and leaves no evidence of a failure.
    const refused = await stack.lifeboatInTurn('drill', 'db.postgres', '--at', later, '--json');
    expect(refused.stdout + refused.stderr).toContain('PITR_TIME');
    const { drills } = await stack.json<{ drills: DrillReport[] }>('drills');
    expect(drills.map(({ status }) => status)).toEqual(['ok']);
    expect((await stack.helpers()).filter((name) => name.includes('-recovery-'))).toEqual([]);
  });

  it('finds WAL and base backups that are damaged, missing or swapped in drills', async () => {
    await stack.psql('CREATE TABLE proven (n int)');
    for (let n = 1; n <= 3; n++) {
      await stack.psql(`INSERT INTO proven VALUES (${n})`);
      await stack.psql('SELECT pg_switch_wal()');
    }
    await stored();
    const backups = path.join(stack.directory, 'backups');
    const sound = await stack.lifeboatInTurn('drill', 'db.postgres.base', '--json');
    expect(sound.code, sound.stdout + sound.stderr).toBe(0);
    await stack.psql('INSERT INTO proven VALUES (4)');
    const last = await stack.psql('SELECT clock_timestamp()');
    await stack.psql('SELECT pg_switch_wal()');
    await stored();
    const outcomes: Record<string, unknown> = {};
    for (const [name, change] of Object.entries(WAL_FAULTS)) {
      const directory = path.join(stack.directory, 'planted', name);
      await cp(backups, directory, { recursive: true });
      await change({ directory, ...(await newestPage(directory, stack.project)) });
      // Without a point, a drill takes a random one, which may be before the fault.
      const point = name === 'record-damaged-with-hash' ? ['db.postgres', '--at', last] : ['db.postgres.base'];
      const ran = await stack.lifeboatInTurn('drill', ...point, '--from', `/planted/${name}`, '--json');
      const [result] = (JSON.parse(ran.stdout) as DrillReport).results;
      const failed = result?.checks.filter(
        ({ result: how, name: what }) => how === 'failed' && /write-ahead/.test(what),
      );
      outcomes[name] = [
        ran.code,
        ...(failed ?? []).map(({ name: what }) => what),
        ...(failed?.length ? [] : [result?.error?.code]),
      ];
    }
    expect(outcomes).toEqual({
      'segment-flipped': [1, 'SHA-256 of the write-ahead log'],
      'segment-missing': [1, 'stored write-ahead log'],
      // Their sizes differ, so neither counts as stored.
      'segments-swapped': [1, 'stored write-ahead log'],
      'segments-swapped-with-hashes': [1, 'SHA-256 of the write-ahead log'],
      'record-damaged-with-hash': [1, 'PG_RESTORE_FAILED'],
      'base-flipped': [1, 'OBJECT_DAMAGED'],
    });
    expect((await stack.helpers()).filter((name) => name.includes('-recovery-'))).toEqual([]);
  });

  it('refuses a time outside of every window, with the nearest times, and makes nothing', async () => {
    const volume = `${stack.project}_never`;
    const args = ['restore', 'db.postgres', '--at', '2001-01-01 00:00:00Z', '--to-volume', volume];
    const { code, stderr } = await stack.lifeboatInTurn(...args);
    expect(code).not.toBe(0);
    expect(stderr).toContain('PITR_TIME');
    expect(stderr).toContain((await windows()).windows[0]?.from);
    expect((await sh('docker', ['volume', 'inspect', volume])).code).not.toBe(0);
  });

  it('goes on after the server has restarted, without a hole', async () => {
    await ok('docker', ['restart', '--time', '5', `${stack.project}-db-1`]);
    await until('the server is back', async () => stack.psql('SELECT 1').catch(() => undefined));
    await write(10, 2);
    await stored();
    const { windows: found, holes } = await windows();
    expect(found).toHaveLength(1);
    expect(holes).toEqual([]);
  });

  it('shows a hole when WAL is missing, and makes a new base backup at once', async () => {
    await stack.compose('stop', 'lifeboat');
    await until('nobody uses the slot', async () => {
      const active = await stack.psql('SELECT count(*) FROM pg_replication_slots WHERE active');
      return active === '0';
    }).catch(async (error: unknown) => {
      throw new Error(`${String(error)}\n${await stack.helpers()}\n${await stack.logs('lifeboat')}`);
    });
    await stack.psql('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
    for (let i = 0; i < 3; i++) {
      await stack.psql(`CREATE TABLE filler${i} AS SELECT 1`);
      await stack.psql('SELECT pg_switch_wal()');
    }
    await stack.psql('CHECKPOINT');
    await stack.compose('start', 'lifeboat');
    const { windows: found, holes } = await until(
      'there is a second window',
      async () => {
        const now = await windows();
        return now.windows.length === 2 && now;
      },
      480_000,
    );
    expect(holes).toMatchObject([{ from: found[0]?.to, to: found[1]?.from }]);
    expect(holes[0]?.why).toContain('the replication slot was gone');
    // Alarms that begin within some seconds are one message.
    await until('people hear of it', async () => {
      const messages = stack.receiver?.requests.filter(({ body }) => body.includes('WAL_GAP')) ?? [];
      const isSent = (part: string) => messages.some(({ path }) => path.includes(part));
      return isSent('/fail') && isSent('/services/');
    });
  });

  it('brings copies the WAL of their base backups, from which the same times can be recovered', async () => {
    const ran = await stack.lifeboatInTurn('copy');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    const { sources } = await stack.json<{ sources: SourceWindows[] }>('windows', 'db.postgres', '--from', '/copy');
    const { windows: here, holes } = await windows();
    expect(sources[0]?.windows.map(({ from }) => from)).toEqual(here.map(({ from }) => from));
    expect(sources[0]?.holes).toEqual(holes);
    expect(sources[0]?.problems).toEqual([]);
    // Between runs, a segment follows once it is complete.
    await write(20, 1);
    const at = await stack.psql('SELECT clock_timestamp() FROM pg_switch_wal()');
    await write(21, 1);
    await until('the copy has the segment', async () => {
      const now = await stack.json<{ sources: SourceWindows[] }>('windows', 'db.postgres', '--from', '/copy');
      const end = now.sources[0]?.windows.at(-1)?.to;
      return end !== undefined && Date.parse(end) >= Date.parse(at);
    });
    expect((await windows()).copies['/copy']).toMatchObject({ page: 1 });
  });

  it('finds stored WAL that is gone: check names it, and no window reaches over it', async () => {
    const before = await windows();
    const log = await ok('docker', [
      'exec',
      `${stack.project}-lifeboat-1`,
      'find',
      '/backups',
      '-path',
      '*/wal/*',
      '-name',
      '*-*',
    ]);
    const last = before.windows.at(-1);
    const bases = last?.bases ?? [];
    const start = await stack.psql(`SELECT pg_walfile_name('${bases[0]?.startLsn}')`);
    const segment = log.split('\n').find((file) => file.includes(`/${start}-`)) as string;
    await ok('docker', ['exec', `${stack.project}-lifeboat-1`, 'rm', segment]);
    const { code, stdout } = await stack.lifeboatInTurn('check');
    expect(code, stdout).toBe(3);
    expect(stdout).toContain(start);
    expect(stdout).toContain('OBJECT_MISSING');
    expect((await windows()).windows).toHaveLength(before.windows.length - 1);
  });
});
