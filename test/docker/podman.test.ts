import { afterEach, beforeEach, expect, test } from 'vitest';
import { candidateIds } from '../../src/app/own-container.ts';
import { silentLog } from '../../src/base/log.ts';
import { listForPlan } from '../../src/docker/discover.ts';
import { createEngine, type Engine, type ExecSpec } from '../../src/docker/engine.ts';
import { execText } from '../../src/docker/exec.ts';
import { startHelper } from '../../src/docker/helper.ts';
import { sharesNetwork } from '../../src/docker/network.ts';
import { frame, type StubEngine, startStubEngine, stubContainer, stubExec } from '../harness/stub-engine.ts';

/** Where the API of Podman differs from Docker's. The responses are those of Podman 5.4.2, shortened. */
let stub: StubEngine;
let engine: Engine;
beforeEach(async () => {
  stub = await startStubEngine();
  engine = createEngine({ dockerHost: stub.dockerHost, log: silentLog });
  stub.routes.set('GET /images/sha256%3Aimage/json', (c) => c.json({ Id: 'sha256:image', Config: { Labels: null } }));
});
afterEach(() => stub.close());

const DB = '7da5a645f5dac3f768f9374cd796e3d78e235e54faea958ec98a3118c20b9c68';
const GUEST = 'bb3190f598ab8133172789e6a8d69d96613fa7337d71a97064fa58706fb4cc20';

/** Podman lists no `HostConfig`, and the network of a guest is that of its host. */
const row = (Id: string, name: string, State: string) => ({
  ...{ Id, Names: [`/${name}`], Image: 'docker.io/library/alpine:3', ImageID: 'sha256:image', Command: 'sleep 1000' },
  ...{ Created: 1796000931, Ports: [], Labels: {}, State, Status: 'Up 1 second', Mounts: [] },
  NetworkSettings: { Networks: { shop_default: { Aliases: ['shop-db-1', 'db', '7da5a645f5da'] } } },
  ...{ Name: '', Config: null, NetworkingConfig: null, Platform: null, DefaultReadOnlyNonRecursive: false },
});

function have(guestState: string): void {
  stub.routes.set('GET /containers/json', (c) =>
    c.json([row(DB, 'shop-db-1', 'running'), row(GUEST, 'guest', guestState), row('gone', 'gone', 'running')]),
  );
  const details = (id: string, name: string, networkMode: string) =>
    stub.routes.set(`GET /containers/${id}/json`, (c) => c.json(stubContainer(id, { name, networkMode })));
  details(DB, 'shop-db-1', 'bridge');
  details(GUEST, 'guest', `container:${DB}`);
}

const inspections = () => stub.requests.filter((request) => /^GET \/containers\/[0-9a-f]{64}\/json$/.test(request));

test.each([
  ['running', true],
  ['exited', false],
])('a database with a guest that is %s shares its network: %s', async (state, expected) => {
  have(state);
  expect(await sharesNetwork(engine, DB)).toBe(expected);
  expect(await sharesNetwork(engine, DB)).toBe(expected);
  // Each container once: the mode never changes.
  expect(inspections()).toHaveLength(2);
});

test('the plan knows a container in the network of another one, although it belongs to no project', async () => {
  have('running');
  const { facts, others } = await listForPlan(engine, () => true);
  expect(facts).toMatchObject([{ name: 'guest', networkMode: `container:${DB}` }]);
  expect(others.map(({ service }) => service)).toEqual(['shop-db-1', 'gone']);
});

// Podman: `environment variable "PGHOST" badly formed, must be key=value (400)`
test('every variable of a command has a value, and the others are removed in the container', async () => {
  stubExec(stub, (socket) => socket.end(frame(1, 'dumped')), { Running: false, ExitCode: 0 });
  const specs: ExecSpec[] = [];
  const watched: Engine = {
    ...engine,
    execCreate(id, spec) {
      specs.push(spec);
      return engine.execCreate(id, spec);
    },
  };
  const argv = ['pg_dump', '-Fd'];
  const { stdout } = await execText(watched, 'box', { argv, env: { PGTZ: 'UTC' }, unset: ['PGHOST', 'LC_ALL'] });
  expect(stdout).toBe('dumped');
  expect(specs).toMatchObject([
    { argv: ['env', '-u', 'PGHOST', '-u', 'LC_ALL', 'pg_dump', '-Fd'], env: { PGTZ: 'UTC' } },
  ]);
});

test.each([true, false])('a helper in the network of a container that runs (%s) is started', async (Running) => {
  stub.routes.set(`GET /containers/${DB}/json`, (c) => c.json(stubContainer(DB, { state: { Running } })));
  stub.routes.set('POST /containers/create', (c) => c.json({ Id: 'h1', Warnings: [] }, 201));
  stub.routes.set('POST /containers/h1/start', (c) => c.text('', 204));
  const context = { engine, log: silentLog, recordBefore: async () => undefined };
  const starting = startHelper(context, {
    ...{ purpose: 'postgres', runId: 'r1', project: 'shop', agent: 'a1', image: 'sha256:image' },
    networkMode: `container:${DB}`,
  });
  if (Running) await starting;
  else
    await expect(starting).rejects.toMatchObject({
      code: 'HELPER_FAILED',
      message: expect.stringMatching(/7da5a645f5da.* not running$/),
    });
  // Podman would start the database too.
  expect(stub.requests.includes('POST /containers/h1/start')).toBe(Running);
});

const MOUNTS = `535 533 254:0 /volumes/shop_lifeboat-spool/_data /spool rw,nosuid,nodev,relatime - ext4 /dev/vda rw
543 533 254:0 /run/overlay-containers/${GUEST}/userdata/hostname /etc/hostname rw,relatime - ext4 /dev/vda rw
545 533 254:0 /run/overlay-containers/${GUEST}/userdata/hosts /etc/hosts rw,relatime - ext4 /dev/vda rw`;

test.each([
  ['its mounts', { mountinfo: MOUNTS, cgroup: '0::/' }],
  ['its cgroup', { mountinfo: '', cgroup: `1:cpu:/libpod_parent/libpod-${GUEST}` }],
])('the agent knows its container from %s, whatever its hostname is', (_, clues) => {
  expect(candidateIds({ ...clues, hostname: 'backup' })).toEqual([GUEST]);
});
