import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { checkInto, isBusyHere, projectOfRestore, settingsFor, startCommand } from '../../src/app/into-project.ts';
import { createSweeps } from '../../src/app/recovery.ts';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Engine } from '../../src/docker/engine.ts';
import { rememberVolumes } from '../../src/kept/copy-data.ts';
import { isInScope } from '../../src/plan/services.ts';
import { parseSettings } from '../../src/plan/settings.ts';
import { takeLock } from '../../src/run/process-lock.ts';
import { openState, type Rollback } from '../../src/run/state.ts';

/** An engine with a container of each of these. */
function engineWith(
  containers: {
    project: string;
    running?: boolean;
    imageId?: string;
    imageLabels?: Record<string, string>;
    state?: string;
  }[],
): Engine {
  const labelsOf = (project: string) => ({ 'com.docker.compose.project': project });
  return {
    listContainers: async () =>
      containers.map(({ project }, i) => ({ id: String(i), labels: labelsOf(project), networkMode: 'bridge' })),
    inspectContainer: async (id: string) => {
      const { project, running = true, imageId = `image-${id}`, state } = containers[Number(id)] ?? { project: '' };
      const rest = { running, labels: labelsOf(project), env: {}, mounts: [], ...(state ? { state } : {}) };
      return { id, name: `${project}-${id}`, imageId, ...rest };
    },
    inspectImage: async (imageId: string) => {
      const found = containers.find((one, i) => imageId === (one.imageId ?? `image-${i}`));
      return { labels: found?.imageLabels ?? {} };
    },
  } as unknown as Engine;
}

const own = { projects: ['node', 'shop'], imageId: 'own' };
const check = (containers: Parameters<typeof engineWith>[0], into = 'staging') =>
  checkInto(engineWith(containers), into, own);

test.each(['all', 'shop,staging,other'])('with LIFEBOAT_SCOPE=%s, only services of the copy are targets', (scope) => {
  const settings = parseSettings({ LIFEBOAT_SCOPE: scope }, () => '');
  const inScope = (into?: string, copies: string[] = []) =>
    ['shop', 'staging', 'other'].filter((project) =>
      isInScope({ project }, { settings: settingsFor(settings, into), project: into ?? 'shop', copies }),
    );
  expect(inScope()).toEqual(['shop', 'staging', 'other']);
  expect(inScope('staging')).toEqual(['staging']);
  expect(inScope('staging', ['staging'])).toEqual(['staging']);
  // A copy is backed up only if the list names it.
  expect(inScope(undefined, ['staging'])).toEqual(scope === 'all' ? ['shop', 'other'] : ['shop', 'staging', 'other']);
});

test('accepts a project with containers', async () => {
  await check([{ project: 'staging' }]);
});

test('refuses a project without containers, and names that are not of a project', async () => {
  await expect(check([{ project: 'shop' }])).rejects.toMatchObject({ code: 'PROJECT_UNKNOWN' });
  await expect(check([], '../state')).rejects.toMatchObject({ code: 'USAGE' });
});

test("refuses the agent's own project, by its labels or its settings", async () => {
  await expect(check([{ project: 'shop' }], 'shop')).rejects.toMatchObject({ code: 'USAGE' });
  await expect(check([{ project: 'node' }], 'node')).rejects.toMatchObject({ code: 'USAGE' });
});

test.each([{ imageId: 'own' }, { imageLabels: { 'org.opencontainers.image.title': 'Lifeboat' } }])(
  'refuses a project in which Lifeboat runs, known by %j',
  async (agent) => {
    const containers = [{ project: 'staging' }, { project: 'staging', ...agent }];
    await expect(check(containers)).rejects.toMatchObject({
      code: 'USAGE',
      message: 'staging has a Lifeboat of its own, staging-1, so it is no copy',
    });
    // `docker compose create` creates it too. One that ran and was stopped belongs to a live project.
    const stopped = (state: string) => ({ project: 'staging', running: false, state, ...agent });
    await check([{ project: 'staging' }, stopped('created')]);
    await expect(check([{ project: 'staging' }, stopped('exited')])).rejects.toMatchObject({ code: 'USAGE' });
  },
);

describe('the command that starts the rest of a copy', () => {
  const commandFor = (...labels: Record<string, string>[]) =>
    startCommand(
      { listContainers: async () => labels.map((one) => ({ labels: one })) } as unknown as Engine,
      'staging',
      'agent',
    );
  const labelsOf = (directory: string, files: string) => ({
    'com.docker.compose.project.working_dir': directory,
    'com.docker.compose.project.config_files': files,
  });

  test('has the Compose files of its containers, quoted for a shell', async () => {
    const labels = labelsOf("/srv/my shop's", "/srv/my shop's/compose.yml,/srv/compose.staging.yml");
    expect(await commandFor(labels, labels)).toBe(
      String.raw`docker compose --project-name staging --project-directory '/srv/my shop'\''s' -f '/srv/my shop'\''s/compose.yml' -f /srv/compose.staging.yml up --detach --scale agent=0`,
    );
  });

  test('names no file if the containers come from different ones, or Compose recorded none', async () => {
    const unknown =
      'docker compose --project-name staging -f FILE… up --detach --scale agent=0, with the Compose files of the copy';
    expect(await commandFor(labelsOf('/srv', '/srv/a.yml'), labelsOf('/srv', '/srv/a.yml,/srv/b.yml'))).toBe(unknown);
    expect(await commandFor({})).toBe(unknown);
  });
});

describe('the state of copies', () => {
  let spool: string;
  beforeEach(() => {
    spool = mkdtempSync(path.join(tmpdir(), 'lifeboat-into-'));
  });
  afterEach(() => rmSync(spool, { recursive: true, force: true }));
  const stateOf = (project?: string) => path.join(spool, ...(project === undefined ? [] : ['into', project]), 'state');
  const record = (project: string | undefined, ...ids: string[]) =>
    openState(stateOf(project)).saveRollbacks(ids.map((id) => ({ id, group: `g${id}` }) as Rollback));

  test('a rollback concerns the live project, and a copy only by the exact id of its restore', async () => {
    await record(undefined, '20261120T0300-aaaa');
    await record('staging', '20261120T0400-bbbb');
    expect(await projectOfRestore(undefined, spool)).toBeUndefined();
    expect(await projectOfRestore('20261120', spool)).toBeUndefined();
    expect(await projectOfRestore('20261120T0400', spool)).toBeUndefined();
    expect(await projectOfRestore('20261120T0400-bbbb', spool)).toBe('staging');
    expect(await projectOfRestore('g20261120T0400-bbbb', spool)).toBe('staging');
    expect(await projectOfRestore('g20261120T0400', spool)).toBeUndefined();
  });

  test('an id of restores of several projects is refused', async () => {
    await record(undefined, 'x-aaaa');
    await record('staging', 'x', 'y');
    await record('test', 'y');
    await expect(projectOfRestore('x', spool)).rejects.toMatchObject({
      code: 'USAGE',
      message: "restores of several projects start with x: Lifeboat's own project, staging",
    });
    await expect(projectOfRestore('y', spool)).rejects.toMatchObject({ code: 'USAGE' });
  });

  test('a damaged record of a copy does not keep the live project from a rollback', async () => {
    await record(undefined, 'x');
    mkdirSync(path.join(stateOf('staging'), 'rollbacks.json'), { recursive: true });
    expect(await projectOfRestore('x', spool)).toBeUndefined();
  });

  test('a restore into a copy counts as a run under way', async () => {
    await record('busy-staging', 'x');
    expect(await isBusyHere('busy-shop', spool)).toBe(false);
    const lock = await takeLock('busy-staging');
    expect(await isBusyHere('busy-shop', spool)).toBe(true);
    await lock.release();
  });

  /** Sweeps copies on an engine with these, so often. Returns the projects that were recovered. */
  async function sweep(
    present: { projects?: string[]; volumes?: string[] },
    {
      recover = async () => undefined,
      between = () => undefined,
      times = 1,
    }: { recover?: () => Promise<void>; between?: () => unknown; times?: number } = {},
  ) {
    const recovered: string[] = [];
    const engine = {
      listContainers: async ({ labels }: { labels: string[] }) =>
        (present.projects ?? []).filter((project) => labels[0] === `com.docker.compose.project=${project}`),
      inspectVolume: async (name: string) => {
        if (present.volumes?.includes(name)) return { labels: {}, options: {} };
        const cause = Object.assign(new Error('no such volume'), { statusCode: 404 });
        throw new LifeboatError('ENGINE_REFUSED', 'no such volume', { cause });
      },
    } as unknown as Engine;
    const note = async (project: string) => {
      recovered.push(project);
      await recover();
      return true;
    };
    const next = createSweeps({ engine, log: silentLog, spool, recover: note });
    for (let i = 0; i < times; i++) {
      if (i > 0) between();
      await next();
    }
    return recovered;
  }
  const leaveJournal = (project: string) => {
    mkdirSync(path.join(stateOf(project), 'runs'), { recursive: true });
    writeFileSync(path.join(stateOf(project), 'runs/r.ndjson'), '');
  };

  test('is recovered if a restore into it died, also after another one failed', async () => {
    leaveJournal('broken');
    leaveJournal('staging');
    await record('whole', 'x');
    const recover = () => Promise.reject(new Error('no engine'));
    const projects = ['broken', 'staging', 'whole'];
    expect(await sweep({ projects }, { recover })).toEqual(['broken', 'staging']);
    expect(await sweep({ projects })).toEqual(['broken', 'staging']);
  });

  test('is recovered again after a failure only when some minutes have passed', async () => {
    leaveJournal('staging');
    const recover = () => Promise.reject(new Error('no destination'));
    expect(await sweep({ projects: ['staging'] }, { recover, times: 3 })).toEqual(['staging']);
    // It logs what it could not undo, and leaves the journal.
    expect(await sweep({ projects: ['staging'] }, { times: 3 })).toEqual(['staging']);
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => clock.mock.calls.length * 600_000);
    const tries = await sweep({ projects: ['staging'] }, { recover, times: 3 });
    clock.mockRestore();
    expect(tries).toEqual(['staging', 'staging', 'staging']);
  });

  test('is not recovered, nor forgotten, while only its volumes are there', async () => {
    leaveJournal('staging');
    await rememberVolumes(stateOf('staging'), ['staging_media']);
    expect(await sweep({ volumes: ['staging_media'] }, { times: 2 })).toEqual([]);
    expect(await sweep({ projects: ['staging'], volumes: ['staging_media'] })).toEqual(['staging']);
  });

  test('is looked at once at a time', async () => {
    leaveJournal('staging');
    let end = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      end = resolve;
    });
    const lists: unknown[] = [];
    const engine = { listContainers: async () => lists.push('list') && [{}] } as unknown as Engine;
    const next = createSweeps({ engine, log: silentLog, spool, recover: () => gate.then(() => false) });
    const all = [next(), next(), next()];
    await vi.waitFor(() => expect(lists).toHaveLength(1));
    end();
    await Promise.all(all);
    expect(lists).toHaveLength(1);
    await next();
    expect(lists).toHaveLength(2);
  });

  test('is forgotten at the start once its containers and its volumes are gone', async () => {
    await record('staging', 'x');
    await rememberVolumes(stateOf('staging'), ['staging_media']);
    await record('gone', 'y');
    await rememberVolumes(stateOf('gone'), ['gone_media']);
    const volumes = ['staging_media', 'gone_media'];
    await sweep({ volumes }, { times: 2, between: () => volumes.pop() });
    expect(await projectOfRestore('y', spool)).toBe('gone');
    await sweep({ volumes: ['staging_media'] });
    expect(await projectOfRestore('x', spool)).toBe('staging');
    expect(await projectOfRestore('y', spool)).toBeUndefined();
  });
});
