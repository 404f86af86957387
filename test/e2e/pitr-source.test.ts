import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SourceWindows } from '../../src/overview/windows.ts';
import type { Session } from '../../src/sources/postgres/server/session.ts';
import { readSlot } from '../../src/sources/postgres/wal/slot.ts';
import { parseLsn } from '../../src/store/wal/names.ts';
import { ok, postgres, Stack, sh, until } from '../harness/stack.ts';

const labels = { 'lifeboat.postgres': 'true', 'lifeboat.postgres.pitr': 'true' };
/** Runs a command in the data directory of a new server before its first real start. */
const initialised = (command: string, more: Record<string, string> = {}) =>
  postgres(17, {
    labels: { ...labels, ...more },
    entrypoint: [
      'bash',
      '-c',
      `echo '${command}' > /docker-entrypoint-initdb.d/test.sh; exec docker-entrypoint.sh "$$@"`,
      'postgres',
    ],
  });
/** Stops a program, so that its connection stays open and silent. */
const STOP = `for p in /proc/[0-9]*; do
    if [ "$(cat $p/comm)" = pg_receivewal ]; then kill -STOP "\${p#/proc/}"; fi
  done 2>/dev/null; true`;

/** Servers that point-in-time recovery cannot use as they are, next to one whose receiver falls behind. */
describe('point-in-time recovery and the server', () => {
  let stack: Stack;

  const windows = async (service = 'db'): Promise<SourceWindows> => {
    const { sources } = await stack.json<{ sources: SourceWindows[] }>('windows', `${service}.postgres`);
    return sources[0] as SourceWindows;
  };
  const problems = async (service: string) => {
    const plan = await stack.json<{ problems: { code: string; subject: string; message: string; hint: string }[] }>(
      'plan',
    );
    return plan.problems.filter(({ subject }) => subject === `${stack.project}-${service}-1`);
  };
  const bodies = () => stack.receiver?.requests.map(({ body }) => body).join('\n') ?? '';

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        // A tenth of its disk is 140 MB: the most WAL that the server may keep for Lifeboat.
        db: postgres(17, {
          labels,
          command: ['postgres', '-c', 'fsync=off', '-c', 'min_wal_size=32MB', '-c', 'max_wal_size=64MB'],
          volumes: ['small:/var/lib/postgresql/data'],
        }),
        minimal: postgres(17, { labels, command: ['postgres', '-c', 'wal_level=minimal', '-c', 'max_wal_senders=0'] }),
        standby: initialised('touch "$$PGDATA/standby.signal"'),
        small: initialised('psql -U postgres -c "CREATE ROLE small LOGIN REPLICATION"', {
          'lifeboat.postgres.user': 'small',
        }),
        closed: initialised('sed -i /replication/d "$$PGDATA/pg_hba.conf"'),
      },
      volumes: { small: { driver_opts: { type: 'tmpfs', device: 'tmpfs', o: 'size=1400m' } } },
      env: { LIFEBOAT_RPO: '1s', LIFEBOAT_BASE_SCHEDULE: '0 0 1 1 *' },
    });
    await stack.psql('CREATE TABLE written (n int)');
    await stack.untilWindow(async () => (await windows()).windows.length > 0);
  });
  afterAll(() => stack?.destroy());

  it.each([
    ['minimal', 'wal_level is minimal', "ALTER SYSTEM SET wal_level = 'replica'"],
    ['standby', 'the server is a standby', 'on the container of the primary'],
    ['small', 'may not see how far the replication is', 'GRANT pg_monitor TO "small";'],
    ['closed', 'refuses replication connections', 'host  replication  postgres  127.0.0.1/32'],
  ])('names the problem of the server "%s", with the line that repairs it', async (service, message, hint) => {
    expect(await problems(service)).toMatchObject([
      { code: 'PG_REPLICATION', message: expect.stringContaining(message), hint: expect.stringContaining(hint) },
    ]);
  });

  it('receives from a server once the line of the hint is there', async () => {
    const [{ hint = '' } = {}] = await problems('closed');
    const line = hint.split(' — ').at(-1) as string;
    await stack.exec('closed', ['sh', '-c', `echo '${line}' >> "$PGDATA/pg_hba.conf"`]);
    await stack.psql('SELECT pg_reload_conf()', { service: 'closed' });
    expect(await problems('closed')).toEqual([]);
    await stack.untilWindow(async () => (await windows('closed')).windows.length > 0);
  });

  it('begins another window when an older copy of the data takes the place of the newer one', async () => {
    const stopped = async (script: string) => {
      await stack.compose('stop', 'closed');
      const volumes = ['--volumes-from', await stack.id('closed')];
      await ok('docker', ['run', '--rm', ...volumes, 'postgres:17', 'sh', '-c', `set -e; cd "$PGDATA"; ${script}`]);
      await stack.compose('start', 'closed');
      await until('the server is up', () => stack.psql('SELECT 1', { service: 'closed' }).catch(() => false));
    };
    await stopped('mkdir pgsql_tmp.older; ls | grep -v older | xargs cp -a -t pgsql_tmp.older');
    await stack.psql('CREATE TABLE newer (n int)', { service: 'closed' });
    await stack.psql('SELECT pg_switch_wal()', { service: 'closed' });
    const end = parseLsn(await stack.psql('SELECT pg_current_wal_lsn()', { service: 'closed' }));
    await until('that is stored', async () => parseLsn((await windows('closed')).receiver?.stored ?? '0/0') >= end);
    await stopped('ls | grep -v older | xargs rm -r; mv pgsql_tmp.older/* .; rmdir pgsql_tmp.older');
    const found = await until(
      'there is a second window',
      async () => {
        const now = await windows('closed');
        return now.windows.length === 2 && now;
      },
      480_000,
    );
    expect(parseLsn(found.windows[0]?.toLsn ?? '0/0')).toBeGreaterThanOrEqual(end);
    expect(found.windows[1]?.bases).toHaveLength(1);
    expect(found.holes).toMatchObject([{ why: expect.stringMatching(/the server (is at|sends other bytes)/) }]);
    await until('people hear of it', async () => bodies().includes('WAL_DIVERGED'));
  });

  it('receives and makes a base backup with a role that has the rights of the hint', async () => {
    const [{ hint = '' } = {}] = await problems('small');
    await stack.psql(/GRANT .*?;/.exec(hint)?.[0] ?? hint, { service: 'small' });
    expect(await problems('small')).toEqual([]);
    await stack.untilWindow(async () => (await windows('small')).windows.length > 0);
  });

  it('does not take what a new slot keeps for what was received', async () => {
    const one = async (sql: string, [name]: string[]) =>
      JSON.parse(await stack.psql(`SELECT row_to_json(q) FROM (${sql.replace('$1', `'${name}'`)}) AS q`));
    const read = async () => (await readSlot({ versionNumber: 170000, one } as unknown as Session, 'new')).slot;
    await stack.psql("SELECT pg_create_physical_replication_slot('new', true)");
    // It begins at the last checkpoint, in the middle of a segment that a receiver has not written yet.
    const before = await read();
    expect(before?.kept).toBeGreaterThan(0n);
    expect(before?.received).toBeUndefined();
    await stack.psql('SELECT pg_switch_wal()');
    await stack.psql("SELECT pg_create_restore_point('new')");
    const segment = "'0/0'::pg_lsn + trunc((pg_current_wal_flush_lsn() - '0/0') / 16777216) * 16777216";
    await stack.psql(`SELECT pg_replication_slot_advance('new', ${segment})`);
    const after = await read();
    expect(after?.received).toBe(after?.kept);
    await stack.psql("SELECT pg_drop_replication_slot('new')");
  });

  it('gives an alarm, then drops an active slot at its limit, and opens a second window', async () => {
    const network = `container:${await stack.id('db')}`;
    for (const name of await stack.helpers()) {
      const its = (await sh('docker', ['inspect', '--format', '{{.HostConfig.NetworkMode}}', name])).stdout.trim();
      if (its === network) await ok('docker', ['exec', name, 'sh', '-c', STOP]);
    }
    const segments = async (count: number) => {
      for (let i = 0; i < count; i++) {
        await stack.psql('INSERT INTO written VALUES (1)');
        await stack.psql('SELECT pg_switch_wal()');
      }
    };
    await segments(6);
    const { active, pid } = await slot();
    expect({ active, isServed: pid !== '' }).toEqual({ active: 't', isServed: true });
    await until('the alarm is raised', async () => (await stack.logs('lifeboat')).includes('Lifeboat drops the slot'));
    await segments(5);
    const found = await until(
      'there is a second window',
      async () => {
        const now = await windows();
        return now.windows.length === 2 && now;
      },
      480_000,
    );
    expect(found.holes).toMatchObject([{ why: expect.stringContaining('so Lifeboat dropped the replication slot') }]);
    expect((await slot()).pid).not.toBe(pid);
    await until('people hear of both', async () => bodies().includes('WAL_BEHIND') && bodies().includes('WAL_GAP'));
  });

  async function slot(): Promise<{ active: string; pid: string }> {
    const row = await stack.psql(
      "SELECT active, active_pid FROM pg_replication_slots WHERE slot_name LIKE 'lifeboat%'",
    );
    const [active = '', pid = ''] = row.split('|');
    return { active, pid };
  }
});
