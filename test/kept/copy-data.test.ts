import { expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import type { Engine } from '../../src/docker/engine.ts';
import { refuseForeignData } from '../../src/kept/copy-data.ts';
import type { Mount, PlannedSource } from '../../src/plan/model.ts';

const ofProject = (project: string) => ({ 'com.docker.compose.project': project });
const media: Mount = { type: 'volume', name: 'staging_media', source: '/v', destination: '/media', writable: true };
const bind: Mount = { type: 'bind', source: '/srv/media', destination: '/media', writable: true };

interface World {
  /** labels of the target's container; undefined: it is gone */
  container?: Record<string, string> | undefined;
  mounts?: Mount[];
  labels?: Record<string, string>;
  options?: Record<string, string>;
  others?: { labels: Record<string, string>; mounts: Mount[] }[];
}

function refuse(target: Partial<PlannedSource> | undefined, world: World = {}, isCopy = true) {
  const { container = ofProject('staging'), mounts = [], labels = ofProject('staging'), options = {} } = world;
  const engine = {
    inspectContainer: async () => {
      if (!('container' in world) || world.container) return { labels: container, mounts };
      const cause = Object.assign(new Error('no such container'), { statusCode: 404 });
      throw new LifeboatError('ENGINE_REFUSED', 'no such container', { cause });
    },
    inspectVolume: async () => ({ labels, options }),
    listContainers: async () => [
      { name: 'staging-web-1', labels: ofProject('staging'), mounts: [media] },
      ...(world.others ?? []).map((one) => ({ name: 'other', ...one })),
    ],
  } as unknown as Engine;
  const planned = target && { project: 'staging', name: 'web.media', containerName: 'staging-web-1', ...target };
  return refuseForeignData({ engine, project: 'staging', isCopy }, planned as PlannedSource | undefined);
}

const volume = (mount: Mount = media) => ({ kind: 'volume' as const, mount });
const server = { kind: 'postgres' as const, name: 'db.postgres', containerName: 'staging-db-1' };

test('accepts a volume that Compose created for the copy, and that nothing else mounts', async () => {
  await refuse(volume());
  await refuse(volume(), {
    others: [{ labels: { 'dev.lifeboat.run': 'r', 'dev.lifeboat.project': 'staging' }, mounts: [media] }],
  });
  await refuse(server, { mounts: [media] });
});

test('accepts a server whose data is in its own container, and mounts that hold no data', async () => {
  await refuse(server);
  const config = { ...bind, destination: '/etc/postgresql/postgresql.conf' };
  const first = { ...bind, destination: '/docker-entrypoint-initdb.d' };
  await refuse(server, { mounts: [config, first, { ...bind, writable: false }, { ...bind, type: 'tmpfs' }] });
});

test('does nothing outside of a copy', async () => {
  await refuse(volume(bind), {}, false);
});

test.each<[string, Partial<PlannedSource> | undefined, World, string]>([
  ['no target', undefined, {}, 'is not a source of staging'],
  ['a source of another project', { ...volume(), project: 'shop' }, {}, 'is not a source of staging'],
  ['a container that is gone', volume(), { container: undefined }, 'is gone, or is not a container of staging'],
  ['a container of another project', volume(), { container: ofProject('shop') }, 'not a container of staging'],
  ['a container outside of Compose', server, { container: {} }, 'not a container of staging'],
  ['a bind', volume(bind), {}, 'uses the directory /srv/media of the host'],
  ['a volume without a name', volume({ ...bind, type: 'volume' }), {}, 'a volume without a name'],
  ['an external or anonymous volume', volume(), { labels: {} }, 'belongs to no project'],
  ['a volume with a fixed name', volume(), { labels: ofProject('shop') }, 'belongs to project shop'],
  ['a volume for a directory', volume(), { options: { type: 'none', o: 'bind', device: '/srv' } }, 'driver options'],
  ['a volume that another project mounts', volume(), { others: [{ labels: {}, mounts: [media] }] }, 'other mounts too'],
  [
    'a volume that a run of another project has',
    volume(),
    { others: [{ labels: { 'dev.lifeboat.run': 'r', 'dev.lifeboat.project': 'shop' }, mounts: [media] }] },
    'other mounts too',
  ],
  ['a server with a bind', server, { mounts: [media, { ...bind, destination: '/data' }] }, 'the directory /srv/media'],
  ['a server with an external volume', server, { mounts: [media], labels: {} }, 'belongs to no project'],
  ['a server with a volume for a directory', server, { mounts: [media], options: { device: '/x' } }, 'driver options'],
])('refuses %s', async (_, target, world, message) => {
  await expect(refuse(target, world)).rejects.toMatchObject({
    code: 'TREE_TARGET_REFUSED',
    message: expect.stringContaining(message),
  });
});
