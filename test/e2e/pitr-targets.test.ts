import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLocalDestination } from '../../src/destinations/local.ts';
import type { SourceWindows } from '../../src/overview/windows.ts';
import { parsePointInTime } from '../../src/plan/values/point-in-time.ts';
import { FETCH_SCRIPT } from '../../src/restore/point/recovery-settings.ts';
import { serverTarget } from '../../src/restore/point/server-target.ts';
import { type Target, targetSettings } from '../../src/restore/point/target.ts';
import { WalServer } from '../../src/restore/point/wal-server.ts';
import { Signing } from '../../src/store/repository/signing.ts';
import { formatLsn, parseLsn } from '../../src/store/wal/names.ts';
import { readWalLogs } from '../../src/store/wal/read-log.ts';
import { ok, postgres, Stack, sh, until } from '../harness/stack.ts';
import { times } from '../harness/times.ts';

const TARGETS = Number(process.env.LIFEBOAT_TARGETS ?? times(50, 100));
const WRITERS = 4;
const EACH = 150;

/** A transaction that ended, as the server's WAL has it. */
interface Ended {
  xid: string;
  /** position of its record, and of the byte after it */
  at: bigint;
  end: bigint;
  /** by the server's clock, microseconds since 1970 */
  time: bigint;
  /** its row is in the table; false for a rollback, and for a transaction of the server itself */
  visible: boolean;
}

/** What a writer has noted in a row: the position of the server, and its own transaction, which commits later. */
interface Note {
  writer: number;
  xid: string;
  position: string;
}

/** A target, the number of commits before it, and the position at which a recovery to it stops. */
interface Case {
  target: Exclude<Target, 'latest'>;
  commits: number;
  stop: bigint;
}

/**
 * Stops at each target in turn, and prints the transactions that are visible there. The server goes on from where it
 * was, so it does not replay everything for each target.
 */
const SCRIPT = `PATH=/usr/lib/postgresql/$PG_MAJOR/bin:$PATH; cd /tmp; printf '%s' "$FETCH" > /run/lifeboat/fetch
: > /data/recovery.signal
while IFS='|' read -r number settings; do
  printf '%s\\n' "$settings" | tr '|' '\\n' > /run/lifeboat/target.conf
  postgres -D /data -c config_file=/run/lifeboat/postgresql.conf > /tmp/log 2>&1 < /dev/null &
  found=
  until [ -n "$found" ]; do
    kill -0 $! || { cat /tmp/log; exit 1; }
    found=$(psql -h /tmp -U postgres -XAtqv ON_ERROR_STOP=1 \\
      -c "DO 'BEGIN ASSERT pg_get_wal_replay_pause_state() = ''paused''; END'" \\
      -c "SELECT concat('$number|', string_agg(xid::text, ' ' ORDER BY xid::text)) FROM written" 2>/dev/null) || sleep 0.02
  done
  echo "$found"
  kill -QUIT $!; wait $!
done < /targets/list`;

const CONFIG = `include '/run/lifeboat/target.conf'
hba_file = '/data/pg_hba.conf'
ident_file = '/data/pg_ident.conf'
restore_command = 'sh /run/lifeboat/fetch "%f" "%p"'
recovery_target_action = 'pause'
recovery_target_timeline = 'current'
hot_standby = on
listen_addresses = ''
unix_socket_directories = '/tmp'
fsync = off
shared_buffers = '1MB'
`;

/** Random points are compared with the transactions that writers made and the WAL recorded: exact to the transaction. */
describe('targets of a point-in-time recovery', () => {
  let stack: Stack;
  const server = () => `${stack.project}-targets`;

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        db: postgres(17, { labels: { 'lifeboat.postgres': 'true', 'lifeboat.postgres.pitr': 'true' } }),
      },
      env: { LIFEBOAT_RPO: '1s', LIFEBOAT_BASE_SCHEDULE: '0 0 1 1 *' },
      agent: { volumes: ['./targets:/targets'] },
      receiver: false,
    });
  });
  afterAll(async () => {
    await sh('docker', ['rm', '--force', '--volumes', server()]);
    await stack?.destroy();
  });

  const find = async (): Promise<SourceWindows> => {
    const { sources } = await stack.json<{ sources: SourceWindows[] }>('windows', 'db.postgres');
    return sources[0] as SourceWindows;
  };

  /** Has writers commit and roll back transactions at the same time. Returns what ended, in the order of the WAL. */
  const write = async (): Promise<Ended[]> => {
    const from = await stack.psql('SELECT pg_current_wal_flush_lsn()');
    const writing = Array.from({ length: WRITERS }, (_, writer) => stack.psql(`CALL write(${writer}, ${EACH})`));
    await Promise.all(writing);
    // A server stops at a time only before a later transaction.
    await stack.psql('SELECT pg_current_xact_id()');
    await stack.psql('SELECT pg_switch_wal()');
    const to = await stack.psql('SELECT pg_current_wal_flush_lsn()');
    const rows = await stack.psql(
      `SELECT json_agg(json_build_object('xid', xid::text, 'at', start_lsn, 'end', end_lsn, 'text', description,
                'visible', record_type = 'COMMIT' AND xid IN (SELECT xid::text::xid FROM written)) ORDER BY start_lsn)
         FROM pg_get_wal_records_info('${from}', '${to}')
        WHERE resource_manager = 'Transaction' AND record_type IN ('COMMIT', 'ABORT')`,
    );
    const all = JSON.parse(rows) as { xid: string; at: string; end: string; text: string; visible: boolean }[];
    return all.map(({ xid, at, end, text, visible }) => {
      const [, seconds = '', micros = ''] = /(\d{4}-\S+ \d\d:\d\d:\d\d)(?:\.(\d+))?/.exec(text) ?? [];
      if (seconds === '') throw new Error(`a record without a time: ${text}`);
      const time = BigInt(Date.parse(`${seconds}Z`)) * 1000n + BigInt(micros.padEnd(6, '0'));
      return { xid, at: parseLsn(at), end: parseLsn(end), time, visible };
    });
  };

  /** Returns what the writers noted, each in its own order. */
  const notes = async (): Promise<Note[]> => {
    const sql = `SELECT json_agg(json_build_object('writer', writer, 'xid', xid::text, 'position', noted) ORDER BY writer, n)
      FROM written`;
    return JSON.parse(await stack.psql(sql)) as Note[];
  };

  /** Returns random targets, each with the number of commits that the documentation of Postgres promises (19.5.5). */
  const choose = (ended: Ended[], noted: Note[]): Case[] => {
    const [first, last] = [ended[0], ended.at(-1)] as [Ended, Ended];
    const commits = ended.filter(({ visible }) => visible);
    const between = (from: bigint, to: bigint) =>
      from + (BigInt(Math.floor(Math.random() * 1e9)) * (to - from)) / 1_000_000_000n;
    const countBefore = (position: bigint) => commits.filter(({ at }) => at < position).length;
    return Array.from({ length: TARGETS }, (_, i): Case => {
      const one = commits[Math.floor(Math.random() * commits.length)] as Ended;
      if (i % 3 === 0) {
        // Every second one is exactly the time of a commit.
        const time = i % 2 === 0 ? one.time : between(first.time, last.time);
        const date = new Date(Number(time / 1000n)).toISOString().replace('T', ' ').replace('Z', '');
        const target = parsePointInTime(`${date}${String(time % 1000n).padStart(3, '0')}+00`);
        if (!target) throw new Error(`no time: ${date}`);
        // The recovery stops before the first transaction that ended later.
        const stop = ended.find((next) => next.time > time)?.at ?? last.end;
        return { target, commits: countBefore(stop), stop };
      }
      if (i % 3 === 1) {
        // A position may be inside a record, which does not count: the server had not written all of it.
        const random = between(first.end, last.end);
        const note = noted[Math.floor(Math.random() * noted.length)] as Note;
        const wanted = i % 2 === 0 ? parseLsn(note.position) : random - (random % 8n);
        const count = commits.filter(({ end }) => end <= wanted).length;
        return { target: { lsn: formatLsn(wanted) }, commits: count, stop: wanted };
      }
      return { target: { xid: one.xid }, commits: countBefore(one.end), stop: one.end };
    });
  };

  it(`are exact to the transaction, ${TARGETS} times`, async () => {
    await stack.psql('CREATE EXTENSION pg_walinspect');
    await stack.psql(`CREATE TABLE written (n serial, xid xid8 DEFAULT pg_current_xact_id(), writer int,
      noted pg_lsn DEFAULT pg_current_wal_lsn(), filler text)`);
    await stack.psql(`CREATE PROCEDURE write(writer int, count int) LANGUAGE plpgsql AS $$ BEGIN
      FOR i IN 1..count LOOP
        INSERT INTO written (writer, filler) VALUES (writer, repeat('x', (random() * 500)::int));
        IF random() < 0.1 THEN ROLLBACK; ELSE COMMIT; END IF;
        PERFORM pg_sleep(random() * 0.005);
      END LOOP;
    END $$`);
    await stack.untilWindow(async () => (await find()).windows.length > 0);
    const ended = await write();
    const commits = ended.filter(({ visible }) => visible);
    expect(commits.length).toBeGreaterThan(WRITERS * EACH * 0.8);
    const lsn = await stack.psql('SELECT pg_current_wal_flush_lsn()');
    await stack.untilReceived(lsn);
    await until('the WAL is stored', async () => {
      const stored = (await find()).receiver?.stored;
      return stored !== undefined && (await stack.psql(`SELECT '${stored}'::pg_lsn >= '${lsn}'::pg_lsn`)) === 't';
    });
    const noted = await notes();
    expectExact(noted, commits);
    const cases = choose(ended, noted).sort((a, b) => Number(a.stop - b.stop));
    const seen = await recoverTo(cases.map(({ target }) => target));
    expect(seen).toHaveLength(cases.length);
    for (const [i, { target, commits: count }] of cases.entries()) {
      const expected = commits
        .slice(0, count)
        .map(({ xid }) => xid)
        .sort()
        .join(' ');
      expect(seen[i], JSON.stringify(target)).toBe(expected);
    }
  }, 900_000);

  /**
   * Checks that a position which `pg_current_wal_lsn()` returns is after all that a writer had committed by then, and
   * before its next commit: so records are compared with positions below.
   */
  const expectExact = (noted: Note[], commits: Ended[]) => {
    const ends = new Map(commits.map(({ xid, end }) => [xid, end]));
    for (const [i, { writer, xid, position }] of noted.entries()) {
      const [own, at, before] = [ends.get(xid) ?? 0n, parseLsn(position), noted[i - 1]];
      expect(own > at, `${xid} at ${position}`).toBe(true);
      if (before?.writer === writer) expect((ends.get(before.xid) ?? 0n) <= at, before.xid).toBe(true);
    }
  };

  /** Recovers the base backup with the stored WAL to each target in turn. Returns the visible transactions. */
  const recoverTo = async (targets: Exclude<Target, 'latest'>[]): Promise<string[]> => {
    const root = path.join(stack.directory, 'targets');
    const data = path.join(root, 'data');
    const ran = await stack.lifeboatInTurn('restore', 'latest', 'db.postgres.base', '--to-directory', '/targets/data');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    await mkdir(path.join(root, 'run'));
    await writeFile(path.join(root, 'run/postgresql.conf'), CONFIG);
    await ok('chown', ['-R', '999', path.join(root, 'run')]);
    const destination = createLocalDestination({ root: path.join(stack.directory, 'backups') });
    const repository = { destination, project: stack.project, keys: {}, signing: new Signing('one') };
    const [log] = await readWalLogs(repository, 'db.postgres');
    if (!log) throw new Error('no WAL is stored');
    const { signal } = new AbortController();
    const lines: string[] = [];
    for (const [i, wanted] of targets.entries()) {
      const { target } = await serverTarget({ repository, log, signal }, { window: { timeline: 1 } }, wanted);
      const settings = targetSettings(target).map(([name, value]) => `${name} = '${value}'`);
      lines.push(`${i}|${settings.join('|')}`);
    }
    await writeFile(path.join(root, 'list'), `${lines.join('\n')}\n`);
    const exchange = { files: path.join(root, 'wal'), wanted: path.join(root, 'wanted') };
    const wal = new WalServer(repository, log, exchange);
    await wal.open();
    const over = new AbortController();
    const serving = wal.serve(over.signal);
    try {
      const mounts = [`${data}:/data`, `${root}/run:/run/lifeboat`, `${exchange.files}:/lifeboat/wal:ro`];
      const all = [...mounts, `${exchange.wanted}:/lifeboat/wanted`, `${root}/list:/targets/list:ro`];
      const options = ['--network', 'none', '--user', '999', '--env', `FETCH=${FETCH_SCRIPT}`];
      const volumes = all.flatMap((mount) => ['--volume', mount]);
      const run = [
        'run',
        '--name',
        server(),
        ...options,
        ...volumes,
        '--entrypoint',
        'sh',
        'postgres:17',
        '-c',
        SCRIPT,
      ];
      const out = await ok('docker', run);
      return out
        .trim()
        .split('\n')
        .map((line) => line.replace(/^\d+\|/, ''));
    } finally {
      over.abort();
      await serving;
    }
  };
});
