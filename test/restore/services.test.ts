import { describe, expect, test } from 'vitest';
import type { ContainerDetails } from '../../src/docker/answers.ts';
import type { Engine } from '../../src/docker/engine.ts';
import type { VolumeSource } from '../../src/plan/model.ts';
import { containersUsing, refuseWriters, serviceNotes } from '../../src/restore/services.ts';

const volume = { type: 'volume', name: 'shop_media', source: '/volumes/media', destination: '/media', writable: true };
const bind = { type: 'bind', source: '/srv/media', destination: '/media', writable: true };

interface Described {
  project?: string;
  service?: string;
  mount?: object;
  changes?: Partial<ContainerDetails>;
}

function container(name: string, { project = 'shop', service = name, mount = volume, changes = {} }: Described = {}) {
  const compose = { 'com.docker.compose.project': project, 'com.docker.compose.service': service };
  const labels = project === '' ? {} : compose;
  return {
    id: `id-${name}`,
    name,
    imageId: 'i',
    running: true,
    env: {},
    command: [],
    mounts: [mount],
    labels,
    ...changes,
  };
}

const engineWith = (containers: ReturnType<typeof container>[]) =>
  ({
    listContainers: async () => containers,
    inspectContainer: async (id: string) => containers.find((one) => one.id === id),
    inspectImage: async () => ({ labels: {} }),
  }) as unknown as Engine;

async function users(containers: ReturnType<typeof container>[], mount: object = volume) {
  const engine = engineWith(containers);
  const target = { kind: 'volume', service: 'web', project: 'shop', containerId: 'id-web', mount } as VolumeSource;
  const services = await containersUsing(engine, [{ target }], 'id-lifeboat');
  return { ...services, using: services.using.map(({ name }) => name) };
}

describe('containers that can write to a volume', () => {
  test('are stopped if they belong to the project, and named if they do not', async () => {
    const readOnly = { ...volume, writable: false };
    const { using, writing, ...rest } = await users([
      container('web'),
      container('worker'),
      container('lifeboat'),
      container('reader', { mount: readOnly }),
      container('sync-rclone-1', { project: 'sync', service: 'rclone' }),
      container('sync-reader-1', { project: 'sync', service: 'reader', mount: readOnly }),
      container('by-hand', { project: '' }),
      container('stopped', { project: 'sync', changes: { running: false } }),
      container('elsewhere', { project: 'sync', mount: { ...volume, name: 'shop_media2', source: '/volumes/2' } }),
    ]);
    expect(using).toEqual(['web', 'worker']);
    expect(writing).toEqual([
      { name: 'by-hand', reason: expect.stringMatching(/belongs to no Compose project, .* does not stop it/) },
      { name: 'sync-rclone-1', reason: expect.stringMatching(/service rclone of project sync, .* does not stop it/) },
    ]);
    expect(serviceNotes({ using: [], writing, ...rest })).toEqual(
      writing.map(({ name, reason }) => `also writing, not stopped: ${name}: ${reason}`),
    );
  });

  test('are recognised by the path of a bind', async () => {
    const { using, writing } = await users(
      [
        container('web', { mount: bind }),
        container('other', { project: 'other', mount: { ...bind, destination: '/elsewhere' } }),
      ],
      bind,
    );
    expect(using).toEqual(['web']);
    expect(writing.map(({ name }) => name)).toEqual(['other']);
  });

  test('are refused if they are paused, but only those of the project', async () => {
    const paused = { changes: { paused: true } };
    await expect(users([container('web', paused)])).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    const { writing } = await users([container('web'), container('other', { project: 'other', ...paused })]);
    expect(writing.map(({ name }) => name)).toEqual(['other']);
  });
});

test('a data directory is not exchanged while a container runs that can write to it, whatever project it is of', async () => {
  const directory = { mount: { ...volume, directory: 'pgdata' } } as unknown as VolumeSource;
  const refuse = (...containers: ReturnType<typeof container>[]) =>
    refuseWriters(engineWith(containers), directory, 'id-lifeboat');
  const stopped = { changes: { running: false } };
  const reader = container('reader', { mount: { ...volume, writable: false } });
  await refuse(container('db', stopped), container('lifeboat'), reader);
  await expect(refuse(container('db'), reader)).rejects.toMatchObject({
    code: 'TREE_TARGET_REFUSED',
    message: expect.stringMatching(/^db can write/),
  });
  await expect(refuse(container('db', { project: 'other' }))).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
});
