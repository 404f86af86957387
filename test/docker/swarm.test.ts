import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { listFacts, listForPlan } from '../../src/docker/discover.ts';
import { createEngine, type Engine } from '../../src/docker/engine.ts';
import { buildPlan } from '../../src/plan/job.ts';
import { parseSettings } from '../../src/plan/settings.ts';
import { currentAll } from '../../src/run/current.ts';
import { type StubEngine, startStubEngine, stubContainer } from '../harness/stub-engine.ts';

/** What a manager, a worker and a proxy of a Swarm answer. test/e2e/second-engine.test.ts asks a real manager. */

let stub: StubEngine;
let engine: Engine;

const task = {
  'com.docker.stack.namespace': 'shop',
  'com.docker.swarm.service.id': 'svc1',
  'com.docker.swarm.service.name': 'shop_db',
};

beforeEach(async () => {
  stub = await startStubEngine();
  engine = createEngine({ dockerHost: stub.dockerHost, log: silentLog });
  stub.routes.set('GET /images/sha256%3Aimage/json', (c) => c.json({ Id: 'sha256:image', Config: { Labels: {} } }));
});
afterEach(() => stub.close());

function have(labels: Record<string, string>, state = 'running'): void {
  const row = { Id: 'c1', Names: ['/shop_db.1.x'], Created: 1, State: state, Labels: labels };
  // Compose has no container of this name.
  stub.routes.set('GET /containers/json', (c) =>
    c.json((c.query.get('filters') ?? '').includes('compose') ? [] : [row]),
  );
  stub.routes.set('GET /containers/c1/json', (c) => c.json(stubContainer('c1', { name: 'shop_db.1.x', labels })));
}

test('a service of a stack has the names of its Compose file, and the labels of `deploy.labels`', async () => {
  have({ ...task, 'lifeboat.keep': '3d' });
  stub.routes.set('GET /services/svc1', (c) =>
    c.json({ Spec: { Labels: { 'lifeboat.postgres': 'true', 'lifeboat.keep': '9d', 'traefik.enable': 'true' } } }),
  );
  const [facts] = await listFacts(engine);
  expect(facts).toMatchObject({ project: 'shop', service: 'db', name: 'shop_db.1.x' });
  expect(facts?.labels).toEqual({ ...task, 'lifeboat.postgres': 'true', 'lifeboat.keep': '3d' });
});

test.each([
  ['a worker', 503, 'This node is not a swarm manager.'],
  ['a proxy', 403, 'Forbidden'],
])('%s leaves the labels of the container', async (_who, status, message) => {
  have({ ...task, 'lifeboat.volumes': 'true' });
  stub.routes.set('GET /services/svc1', (c) => c.json({ message }, status));
  const [facts] = await listFacts(engine);
  expect(facts?.labels).toEqual({ ...task, 'lifeboat.volumes': 'true' });
});

test.each([
  [503, "The swarm does not have a leader. It's possible that too few managers are online."],
  [500, 'rpc error: code = DeadlineExceeded'],
])('labels that cannot be read now are in doubt (%d)', async (status, message) => {
  have({ ...task, 'lifeboat.volumes': 'true' });
  stub.routes.set('GET /services/svc1', (c) => c.json({ message }, status));
  const facts = await listFacts(engine);
  expect(facts).toMatchObject([{ unreadLabels: expect.stringContaining(message) }]);
  const settings = parseSettings({}, () => '');
  const mount = { type: 'volume', name: 'm', source: '/m', destination: '/m', writable: true };
  const containers = facts.map((one) => ({ ...one, mounts: [mount] }));
  const plan = buildPlan({ project: 'shop', settings, containers, configFiles: false });
  expect(plan.unreadLabels).toBe(true);
  expect(plan.sources).toMatchObject([{ name: 'db.m', keepInDoubt: 'the labels of its Swarm service cannot be read' }]);
  expect(plan.problems).toMatchObject([{ severity: 'error', code: 'ENGINE_REFUSED', subject: 'db' }]);
});

test('labels of another project that cannot be read now are read again', async () => {
  have(task);
  stub.routes.set('GET /services/svc1', (c) => c.json({ message: 'no leader' }, 503));
  await listForPlan(engine, () => false);
  stub.routes.set('GET /services/svc1', (c) => c.json({ Spec: { Labels: { 'lifeboat.volumes': 'true' } } }));
  const { facts } = await listForPlan(engine, () => false);
  expect(facts[0]?.labels).toEqual({ ...task, 'lifeboat.volumes': 'true' });
});

test('a container that Swarm has replaced is found by its service', async () => {
  const known = { id: 'gone', name: 'shop_db.1.w', project: 'shop', service: 'db' };
  have(task);
  expect((await currentAll(engine, known)).map(({ container }) => container.id)).toEqual(['c1']);
  have(task, 'exited');
  expect(await currentAll(engine, known)).toEqual([]);
});
