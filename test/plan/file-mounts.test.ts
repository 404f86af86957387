import { describe, expect, test } from 'vitest';
import { fileMountsOf } from '../../src/plan/host-paths.ts';
import { buildPlan } from '../../src/plan/job.ts';
import type { ContainerFacts, Mount, MountingContainer } from '../../src/plan/model.ts';
import { parseSettings } from '../../src/plan/settings.ts';

const bind = (source: string, destination: string, more: Partial<Mount> = {}): Mount => ({
  ...{ type: 'bind', source, destination, writable: true },
  ...more,
});
const volume = (name: string, destination: string): Mount => ({
  ...{ type: 'volume', name, source: `/var/lib/docker/volumes/${name}/_data`, destination, writable: true },
});
const container = (mounts: Mount[], more: Partial<ContainerFacts> = {}): ContainerFacts => ({
  ...{ id: 'app', name: 'shop-app-1', project: 'shop', service: 'app', imageId: 'sha256:image', running: true },
  ...{ labels: {}, imageLabels: {}, env: {}, mounts },
  ...more,
});
const FILE = bind('/srv/data/app.db', '/app.db');
const found = (...mounts: Mount[]) => fileMountsOf([container(mounts)]);

describe('a bind whose neighbours are elsewhere', () => {
  test('is a single file, whatever the spelling of its path', () => {
    expect(found(FILE)).toEqual(['/srv/data/app.db']);
    expect(found(bind('/srv/app/..//data/./app.db/', '/app.db'))).toEqual(['/srv/data/app.db']);
    expect(found({ ...FILE, kind: 'file' })).toEqual(['/srv/data/app.db']);
    expect(found(bind('/var/lib/docker/volumes/data/_data/app.db', '/app.db'))).toHaveLength(1);
  });

  test('is not one that is read-only, known as a directory, or a socket', () => {
    expect(found({ ...FILE, writable: false })).toEqual([]);
    expect(found({ ...FILE, kind: 'directory' })).toEqual([]);
    expect(found({ ...FILE, kind: 'other' })).toEqual([]);
    expect(found(volume('data', '/data'))).toEqual([]);
  });

  test('is not one whose log is mounted too, with the directory or by itself', () => {
    expect(found(bind('/srv/data', '/data'), bind('/srv/data/app.db', '/data/app.db'))).toEqual(['/srv/data']);
    expect(found(bind('/srv/data/', '/data/'), bind('/srv/data/app.db', '/data/app.db'))).not.toContain(FILE.source);
    const inVolume = bind('/var/lib/docker/volumes/data/_data/app.db', '/data/app.db');
    expect(found(volume('data', '/data'), inVolume)).toEqual([]);
    expect(found(FILE, bind('/srv/data/app.db-wal', '/app.db-wal'))).not.toContain(FILE.source);
  });

  test('is one if the container mounts the directory at another place, or the file under another name', () => {
    expect(found(bind('/srv/data', '/data'), FILE)).toContain(FILE.source);
    expect(found(bind('/srv/data', '/data'), bind(FILE.source, '/data/main.db'))).toContain(FILE.source);
    expect(found(volume('state', '/data'), bind(FILE.source, '/data/app.db'))).toContain(FILE.source);
    expect(found({ ...volume('', '/data'), type: 'tmpfs', source: '' }, bind(FILE.source, '/data/app.db'))).toContain(
      FILE.source,
    );
    const hidden = [bind('/srv/data', '/data'), bind('/srv/data/app.db', '/data/app.db')];
    expect(found(...hidden, bind('/srv/logs', '/data/app.db-wal'))).toContain(FILE.source);
  });
});

describe('the containers that count', () => {
  const never = { state: 'created', restartPolicy: 'no', createdAt: '', startedAt: '', finishedAt: '' };
  const stopped = { running: false, life: { ...never, state: 'exited' } };
  const of = (...containers: MountingContainer[]) => fileMountsOf(containers, 'agent');

  test('are the running ones, and stopped ones that may start again with the log in their layer', () => {
    expect(of(container([FILE]))).toHaveLength(1);
    expect(of(container([FILE], stopped))).toHaveLength(1);
    expect(of(container([FILE], { running: false }))).toHaveLength(1);
  });

  test('are not the agent, a container that never ran, a one-off one that ended, or one that was replaced', () => {
    const oneOff = { 'com.docker.compose.oneoff': 'True' };
    expect(of(container([FILE], { id: 'agent' }))).toEqual([]);
    expect(of(container([FILE], { running: false, life: never }))).toEqual([]);
    expect(of(container([FILE], { ...stopped, labels: oneOff }))).toEqual([]);
    expect(of(container([FILE], { labels: oneOff }))).toHaveLength(1);
    expect(of(container([FILE], { ...stopped, id: 'old' }), container([]))).toEqual([]);
    expect(of(container([FILE], stopped), container([], { id: 'run', labels: oneOff }))).toHaveLength(1);
    expect(of(container([FILE], { ...stopped, id: 'old' }), container([], { project: 'blog' }))).toHaveLength(1);
  });

  test('may be several, of any project', () => {
    const other = container([bind('/srv/data/jobs.db', '/jobs.db'), FILE], { id: 'other', project: 'blog' });
    expect(of(other, container([FILE]))).toEqual(['/srv/data/app.db', '/srv/data/jobs.db']);
  });
});

test('sources of files have the list, and nothing else of a plan changes', () => {
  const files = container([bind('/srv/data', '/data')], {
    ...{ id: 'files', name: 'shop-files-1', service: 'files', labels: { 'lifeboat.volumes': '/data' } },
  });
  const plan = (containers: ContainerFacts[]) =>
    buildPlan({
      ...{ containers, project: 'shop', settings: parseSettings({}, () => ''), configFiles: true },
      agentId: 'agent',
    });
  const { sources, ...rest } = plan([files, container([FILE])]);
  const without = plan([files, container([])]);
  expect(sources.map((source) => [source.name, 'fileMounts' in source && source.fileMounts])).toEqual([
    ['config', ['/srv/data', '/srv/data/app.db']],
    ['files.data', ['/srv/data', '/srv/data/app.db']],
  ]);
  expect(rest).toEqual({ ...without, sources: undefined });
});
