import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SourceWindows } from '../../src/overview/windows.ts';
import type { PointResult } from '../../src/restore/point/restore-point.ts';
import { ok, postgres, Stack, sh, until } from '../harness/stack.ts';

/** Names of services, with the image of each. */
const IMAGES = { old: '13', mid: '15', new: '18', small: '17-alpine' };

/** One stack with several stock images: each is recovered to a time between two transactions, by the label alone. */
describe('point-in-time recovery of stock images', () => {
  let stack: Stack;
  const created: { servers: string[]; volumes: string[] } = { servers: [], volumes: [] };

  const find = async (service: string): Promise<SourceWindows> => {
    const { sources } = await stack.json<{ sources: SourceWindows[] }>('windows', `${service}.postgres`);
    return sources[0] as SourceWindows;
  };

  beforeAll(async () => {
    const labels = { 'lifeboat.postgres': 'true', 'lifeboat.postgres.pitr': 'true' };
    const services = Object.entries(IMAGES).map(([name, tag]) => [name, postgres(tag, { labels })]);
    stack = await Stack.start({
      services: Object.fromEntries(services),
      env: { LIFEBOAT_RPO: '1s', LIFEBOAT_BASE_SCHEDULE: '0 0 1 1 *' },
      receiver: false,
    });
  });
  afterAll(async () => {
    for (const name of created.servers) await sh('docker', ['rm', '--force', '--volumes', name]);
    await stack?.destroy();
    for (const volume of created.volumes) await sh('docker', ['volume', 'rm', '--force', volume]);
  });

  it.each(Object.entries(IMAGES))('service %s: postgres:%s', async (service, tag) => {
    const psql = (sql: string) => stack.psql(sql, { service });
    await stack.untilWindow(async () => (await find(service)).windows.length > 0);
    await psql('CREATE TABLE marks (n int); INSERT INTO marks VALUES (1)');
    const at = await psql('SELECT clock_timestamp()');
    await psql('INSERT INTO marks VALUES (2)');
    const lsn = await psql('SELECT pg_current_wal_flush_lsn()');
    await stack.untilReceived(lsn, service);
    await until('the WAL is stored', async () => {
      const { receiver } = await find(service);
      const confirmed = receiver?.confirmed?.lsn;
      return confirmed !== undefined && (await psql(`SELECT '${confirmed}'::pg_lsn >= '${lsn}'::pg_lsn`)) === 't';
    });
    const volume = `${stack.project}_${service}-then`;
    created.volumes.push(volume);
    const args = ['restore', `${service}.postgres`, '--at', at, '--to-volume', volume, '--json'];
    const { code, stdout, stderr } = await stack.lifeboatInTurn(...args);
    expect(code, stdout + stderr).toBe(0);
    const { dataDirectory, recovered } = JSON.parse(stdout) as PointResult;
    expect(recovered.at).toBe('target');
    const name = `${stack.project}-${service}-then`;
    created.servers.push(name);
    await ok('docker', ['run', '-d', '--name', name, '-v', `${volume}:${dataDirectory}`, `postgres:${tag}`]);
    const query = ['exec', name, 'psql', '-U', 'postgres', '-XAtc', 'SELECT max(n) FROM marks'];
    const found = await until('the recovered server answers', async () => {
      const ran = await sh('docker', query);
      return ran.code === 0 && ran.stdout.trim();
    });
    expect(found).toBe('1');
  });

  it('stops receiving within seconds when the agent is killed, and goes on at its next start', async () => {
    const agent = await stack.id('lifeboat');
    const active = async (service: string) =>
      Number(await stack.psql('SELECT count(*) FROM pg_replication_slots WHERE active', { service }));
    const services = Object.keys(IMAGES);
    const confirmed = async (service: string) => (await find(service)).receiver?.confirmed?.lsn ?? '0/0';
    for (const service of services) expect(await active(service), service).toBe(1);
    await ok('docker', ['kill', agent]);
    for (const service of services)
      await until(`nobody receives from ${service}`, async () => (await active(service)) === 0, 15_000);
    await ok('docker', ['start', agent]);
    for (const service of services) {
      await stack.psql('INSERT INTO marks VALUES (2)', { service });
      const lsn = await stack.psql('SELECT pg_current_wal_flush_lsn()', { service });
      await stack.untilReceived(lsn, service);
      await until(`the WAL of ${service} is stored`, async () => {
        const sql = `SELECT '${await confirmed(service)}'::pg_lsn >= '${lsn}'::pg_lsn`;
        return (await stack.psql(sql, { service })) === 't';
      });
      const { windows, holes } = await find(service);
      expect({ windows: windows.length, holes }, service).toEqual({ windows: 1, holes: [] });
    }
  });

  it('is possible without Lifeboat, with the scripts of the documentation', async () => {
    const psql = (sql: string) => stack.psql(sql, { service: 'mid' });
    const at = await psql('SELECT clock_timestamp()');
    await psql('INSERT INTO marks VALUES (3); SELECT pg_switch_wal()');
    const lsn = await psql('SELECT pg_current_wal_flush_lsn()');
    await stack.untilReceived(lsn, 'mid');
    await until('the WAL is stored', async () => {
      const confirmed = (await find('mid')).receiver?.confirmed?.lsn;
      return confirmed !== undefined && (await psql(`SELECT '${confirmed}'::pg_lsn >= '${lsn}'::pg_lsn`)) === 't';
    });
    const [data, wal] = ['data', 'wal'].map((name) => path.join(stack.directory, name)) as [string, string];
    await run('restore-without-lifeboat.md', 'latest', 'mid.postgres.base', data);
    await run('point-in-time.md', 'mid.postgres', wal);
    await writeFile(path.join(data, 'recovery.signal'), '');
    await ok('chown', ['-R', '999', data, wal]);
    const name = `${stack.project}-by-hand`;
    created.servers.push(name);
    const settings = ['restore_command=cp /wal/%f %p', `recovery_target_time=${at}`, 'recovery_target_action=promote'];
    const mounts = ['-v', `${data}:/var/lib/postgresql/data`, '-v', `${wal}:/wal`];
    await ok('docker', [
      ...['run', '-d', '--name', name, ...mounts, 'postgres:15'],
      ...settings.flatMap((setting) => ['-c', setting]),
    ]);
    const sql = 'SELECT max(n) FROM marks WHERE NOT pg_is_in_recovery()';
    const found = await until('the server is recovered', async () => {
      const ran = await sh('docker', ['exec', name, 'psql', '-U', 'postgres', '-XAtc', sql]);
      return ran.code === 0 && ran.stdout.trim();
    });
    expect(found).toBe('2');
  });

  /** Runs the script on a page of the documentation, on the repository of the stack. */
  const run = async (page: string, ...operands: string[]) => {
    const text = await readFile(new URL(`../../docs/${page}`, import.meta.url), 'utf8');
    const script = path.join(stack.directory, `${page}.sh`);
    await writeFile(script, /```sh\n(.*?)```/s.exec(text)?.[1] ?? '');
    await ok('sh', [script, path.join(stack.directory, 'backups'), stack.project, ...operands]);
  };
});
