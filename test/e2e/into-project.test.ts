import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StatusDocument } from '../../src/overview/document.ts';
import type { RestoreResult } from '../../src/restore/context.ts';
import { holder, ok, postgres, Stack, until } from '../harness/stack.ts';

/** Builds a copy of a live project on the same engine, from its Compose file and its backups. */
describe('restore --into-project', () => {
  let stack: Stack;
  let copy: string;
  const ofCopy = (...args: string[]) => stack.compose('--project-name', copy, ...args);
  const inCopy = (service: string, ...argv: string[]) => ok('docker', ['exec', `${copy}-${service}-1`, ...argv]);
  const names = (project: string) =>
    ok('docker', ['exec', `${project}-db-1`, 'psql', '-U', 'postgres', '-Atc', 'SELECT name FROM person', 'shop']);
  const stateOf = (container: string) =>
    ok('docker', ['inspect', '--format', '{{.State.Status}} {{.State.StartedAt}}', container]);
  const shared = () => path.join(stack.directory, 'shared/file');

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        db: postgres(17, {
          volumes: ['data:/var/lib/postgresql/data'],
          environment: { POSTGRES_DB: 'shop' },
          labels: {
            'lifeboat.postgres': 'true',
            'lifeboat.exec.restored': `psql -U postgres -v ON_ERROR_STOP=1 -c "UPDATE person SET name = 'nobody'" shop`,
          },
        }),
        web: holder(['media:/media', './shared:/shared', 'memory:/memory'], {
          'lifeboat.volumes': 'media,/shared,memory',
        }),
      },
      volumes: { data: {}, media: {}, memory: { driver_opts: { type: 'tmpfs', device: 'tmpfs' } } },
      receiver: false,
    });
    copy = `${stack.project}-copy`;
    await stack.psql("CREATE TABLE person AS SELECT 'Ada' AS name", { database: 'shop' });
    await stack.exec('web', ['sh', '-c', 'echo photo >/media/p; echo kept >/memory/m']);
    await mkdir(path.dirname(shared()), { recursive: true });
    await writeFile(shared(), 'stored');
    expect((await stack.backup()).report.status).toBe('ok');
    // The live project has changed since.
    await stack.psql("UPDATE person SET name = 'Grace'", { database: 'shop' });
    await stack.exec('web', ['sh', '-c', 'echo newer >/media/p']);
    await writeFile(shared(), 'newer');
  });
  afterAll(async () => {
    await ofCopy('down', '--volumes', '--timeout', '0');
    await stack.destroy();
  });

  const into = async (...args: string[]) => {
    const { stdout } = await stack.lifeboat('restore', ...args, '--yes', '--json');
    return (JSON.parse(stdout) as { error: { code: string; hint: string } }).error;
  };

  it('refuses a project without containers, and the own one', async () => {
    const unknown = await into('latest', '--all', '--into-project', copy);
    expect(unknown.code).toBe('PROJECT_UNKNOWN');
    expect(unknown.hint).toContain(`docker compose --project-name ${copy} -f FILE… create`);
    for (const name of [stack.project, '../state']) {
      expect((await into('latest', '--all', '--into-project', name)).code, name).toBe('USAGE');
    }
  });

  it('fills the copy, runs its hook, and leaves the live project alone', async () => {
    await ofCopy('create');
    await ofCopy('up', '--detach', '--wait', 'db');
    for (const args of [
      ['latest', 'web.media', '--into-project', copy, '--to-directory', '/restored/x'],
      ['db.postgres', '--at', 'latest', '--into-project', copy, '--to-volume', 'x'],
    ])
      expect((await into(...args)).code, args.join(' ')).toBe('USAGE');
    const live = await Promise.all(['web', 'db'].map((name) => stateOf(`${stack.project}-${name}-1`)));
    // With backups of its own, the project would be a live one.
    const backups = `/backups/${copy}/snapshots/20261121T030000Z-000001`;
    await stack.exec('lifeboat', ['sh', '-c', `mkdir -p ${backups} && echo x >${backups}/manifest.json`]);
    expect((await into('latest', '--all', '--into-project', copy)).code).toBe('USAGE');
    expect(await names(copy).catch(() => 'none')).toBe('none');
    await stack.exec('lifeboat', ['rm', '-r', `/backups/${copy}`]);
    const some = ['restore', 'latest', 'db.postgres', 'web.media', '--into-project', copy, '--yes'];
    const { code, stdout, stderr } = await stack.lifeboat(...some);
    expect(code, stdout + stderr).toBe(0);
    expect(stderr).toContain(`into project   ${copy}, a copy`);
    const place = `--project-directory ${stack.directory} -f ${stack.directory}/compose`;
    expect(stdout).toContain(`docker compose --project-name ${copy} ${place}`);
    expect(stdout).toContain(' up --detach --scale lifeboat=0\n');
    expect(await names(copy)).toBe('nobody\n');
    expect(await names(stack.project)).toBe('Grace\n');
    expect(await stateOf(`${copy}-web-1`)).toMatch(/^created /);
    expect(await Promise.all(['web', 'db'].map((name) => stateOf(`${stack.project}-${name}-1`)))).toEqual(live);
    await ofCopy('up', '--detach', 'web');
    expect(await inCopy('web', 'cat', '/media/p')).toBe('photo\n');
    expect(await stack.exec('web', ['cat', '/media/p'])).toBe('newer\n');
    expect((await stack.json<StatusDocument>('status')).restores).toEqual([]);
  });

  it('refuses binds and volumes with driver options, and restores the rest', async () => {
    const { code, stdout } = await stack.lifeboat(
      ...['restore', 'latest', '--all', '--into-project', copy, '--yes', '--json'],
    );
    const result = JSON.parse(stdout) as RestoreResult;
    expect({ code, status: result.status, project: result.project }).toEqual({
      ...{ code: 3, status: 'partial', project: copy },
    });
    expect(result.failed?.map(({ target, error }) => [target, error.code]).sort()).toEqual([
      ['web.memory', 'TREE_TARGET_REFUSED'],
      ['web.shared', 'TREE_TARGET_REFUSED'],
    ]);
    expect(await readFile(shared(), 'utf8')).toBe('newer');
    expect(await inCopy('web', 'cat', '/media/p')).toBe('photo\n');
    // The id alone leads to the copy, and not to the data of the live project with the same name.
    await inCopy('db', 'psql', '-U', 'postgres', '-c', "UPDATE person SET name = 'later'", 'shop');
    const part = await stack.lifeboat('rollback', result.id.slice(0, -1), '--yes');
    expect(part.code, part.stdout + part.stderr).not.toBe(0);
    const back = await stack.lifeboat('rollback', result.id, '--yes');
    expect(back.code, back.stdout + back.stderr).toBe(0);
    expect(await names(copy)).toBe('nobody\n');
    expect(await names(stack.project)).toBe('Grace\n');
  });

  const inSpool = (script: string) => stack.exec('lifeboat', ['sh', '-c', script]);

  it('recovers a dead restore into the copy within a minute', async () => {
    const id = '20261120T030000Z-abcdef';
    const start = JSON.stringify({ type: 'start', verb: 'restore', id, agent: 'dead' });
    const place = `/spool/into/${copy}`;
    await inSpool(`mkdir ${place}/runs/${id} && echo '${start}' >${place}/state/runs/${id}.ndjson`);
    const left = () => inSpool(`ls ${place}/runs ${place}/state/runs | grep ${id}; true`);
    await until('the restore is undone', async () => (await left()) === '', 90_000);
    // Its old data stays.
    expect(await inSpool(`cat ${place}/state/rollbacks.json`)).toContain('web.media');
  });

  it('passes a stop of the agent on to a restore into the copy', async () => {
    const restore = stack.spawn('restore', 'latest', 'db.postgres', '--into-project', copy, '--yes');
    const ended = once(restore, 'close');
    const runs = `/spool/into/${copy}/state/runs`;
    await until('the restore has begun', async () => (await inSpool(`ls ${runs}`)) !== '');
    await stack.compose('stop', 'lifeboat');
    // The engine kills what is left, with status 137.
    expect(await ended).toEqual([130, null]);
    await stack.compose('start', 'lifeboat');
    expect(await inSpool(`ls ${runs}`)).toBe('');
  });

  it('forgets a copy that is gone at the next start', async () => {
    await ofCopy('down', '--volumes', '--timeout', '0');
    await stack.compose('restart', 'lifeboat');
    await until('the copy is forgotten', async () => (await inSpool('ls /spool/into')) === '', 60_000);
  });
});
