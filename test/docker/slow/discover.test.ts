import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { candidateIds, findSelf } from '../../../src/app/own-container.ts';
import { type Log, silentLog } from '../../../src/base/log.ts';
import { listFacts, listForPlan, watch } from '../../../src/docker/discover.ts';
import { createEngine, type Engine } from '../../../src/docker/engine.ts';
import { type Call, type StubEngine, startStubEngine, stubContainer } from '../../harness/stub-engine.ts';
import { LONG_WAIT } from '../../harness/wait.ts';

let stub: StubEngine;
let engine: Engine;

beforeEach(async () => {
  stub = await startStubEngine();
  engine = createEngine({ dockerHost: stub.dockerHost, log: silentLog, plainMs: 20_000 });
  stub.routes.set('GET /images/sha256%3Aimage/json', (c) =>
    c.json({ Id: 'sha256:image', Config: { Labels: { a: 'b' } } }),
  );
});
afterEach(() => stub.close());

function have(containers: Record<string, Record<string, string> | 'vanished'>): void {
  stub.routes.set('GET /containers/json', (c) => {
    const rows = Object.entries(containers).map(([name, labels]) => {
      const Labels = labels === 'vanished' ? { lifeboat: '1' } : labels;
      return { Id: name, Names: [`/${name}`], Created: 1, Labels, HostConfig: { NetworkMode: 'bridge' } };
    });
    c.json(rows);
  });
  for (const [name, labels] of Object.entries(containers)) {
    if (labels !== 'vanished')
      stub.routes.set(`GET /containers/${name}/json`, (c) => c.json(stubContainer(name, { labels })));
  }
}

const mount = { Type: 'bind', Source: '/srv/app.db', Destination: '/app.db', RW: true };

const row = (id: string, State: string, Labels = {}) => {
  const HostConfig = { NetworkMode: 'bridge' };
  return { Id: id, Names: [`/${id}`], Created: 1, State, Labels, HostConfig, Mounts: [mount] };
};

const compose = { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'db' };

test('lists the containers that matter to planning, sorted, and nothing else', async () => {
  have({
    z: { 'lifeboat.volumes': 'true' },
    a: compose,
    capital: { 'Lifeboat.Postgres': 'true' },
    typo: { lifebaot: 'x' },
    plain: {},
    gone: 'vanished',
    helper: { ...compose, 'dev.lifeboat.run': 'r1' },
  });
  const facts = await listFacts(engine);
  expect(facts.map(({ name, project, service }) => [name, project, service])).toEqual([
    ['a', 'shop', 'db'],
    ['capital', '', 'capital'],
    ['z', '', 'z'],
  ]);
  expect(facts[0]).toMatchObject({
    running: true,
    imageId: 'sha256:image',
    imageLabels: { a: 'b' },
    env: { A: '1=2' },
  });
});

test('lists the mounts of the other containers, without inspecting them', async () => {
  stub.routes.set('GET /containers/json', (c) =>
    c.json([
      ...[row('plain', 'running'), row('paused', 'paused'), row('new', 'created')],
      ...[row('helper', 'running', { 'dev.lifeboat.run': 'r1' }), { ...row('none', 'exited'), Mounts: undefined }],
    ]),
  );
  const { facts, others } = await listForPlan(engine, () => true);
  expect(facts).toEqual([]);
  const mounts = [{ type: 'bind', source: '/srv/app.db', destination: '/app.db', writable: true }];
  expect(others).toMatchObject([
    { id: 'plain', service: 'plain', project: '', running: true, mounts },
    { id: 'paused', running: true, mounts },
    { id: 'new', running: false, life: { state: 'created' }, mounts },
    { id: 'none', running: false, mounts: [] },
  ]);
  expect(stub.requests.filter((request) => request.startsWith('GET /containers/'))).toEqual(['GET /containers/json']);
});

test('a plan inspects containers of other projects once, and knows their present names and states', async () => {
  const labels = (project: string) => ({ 'com.docker.compose.project': project });
  const rows = [row('own', 'running', labels('shop')), row('foreign', 'running', labels('blog'))];
  stub.routes.set('GET /containers/json', (c) => c.json(rows));
  for (const id of ['own', 'foreign', 'new'])
    stub.routes.set(`GET /containers/${id}/json`, (c) => c.json(stubContainer(id, { labels: compose })));
  const list = async () => {
    stub.requests.length = 0;
    const { facts } = await listForPlan(engine, (project) => project === 'shop');
    const inspected = stub.requests.flatMap((request) => /^GET \/containers\/(\w+)\/json$/.exec(request)?.[1] ?? []);
    return { facts, inspected: inspected.sort() };
  };
  expect((await list()).inspected).toEqual(['foreign', 'own']);
  rows[1] = { ...row('foreign', 'exited', labels('blog')), Names: ['/renamed'] };
  const second = await list();
  expect(second.inspected).toEqual(['own']);
  expect(second.facts).toMatchObject([
    { id: 'own', running: true },
    { id: 'foreign', name: 'renamed', running: false, life: { state: 'exited' }, imageLabels: { a: 'b' } },
  ]);
  // A recreated container has a new id.
  rows[1] = row('new', 'running', labels('blog'));
  expect((await list()).inspected).toEqual(['new', 'own']);
  rows[1] = row('foreign', 'running', labels('blog'));
  expect((await list()).inspected).toEqual(['foreign', 'own']);
});

test('inspects an image once, and accepts one that is gone', async () => {
  have({ a: compose, b: compose });
  await listFacts(engine);
  await listFacts(engine);
  const asked = () => stub.requests.filter((request) => request.startsWith('GET /images'));
  // Two at first, because both containers are inspected in parallel.
  expect(asked().length).toBeLessThanOrEqual(2);
  stub.routes.delete('GET /images/sha256%3Aimage/json');
  const fresh = createEngine({ dockerHost: stub.dockerHost, log: silentLog });
  expect((await listFacts(fresh))[0]?.imageLabels).toEqual({});
});

const id = (digit: string) => digit.repeat(64);

test('finds its own container by the most reliable clue that the engine knows', async () => {
  const line = (of: string, file: string) =>
    `601 590 254:1 /var/lib/docker/containers/${of}/${file} /etc/${file} rw - ext4 /dev/vda1 rw`;
  const clues = {
    cgroup: `12:cpu:/docker/${id('f')}/docker/${id('a')}\n0::/`,
    mountinfo: [line(id('b'), 'hostname'), line(id('b'), 'hosts')].join('\n'),
    hostname: 'c'.repeat(12),
  };
  expect(candidateIds(clues)).toEqual([id('a'), id('b'), 'c'.repeat(12)]);
  expect(candidateIds({ cgroup: `0::/system.slice/docker-${id('a')}.scope`, mountinfo: '', hostname: 'db' })).toEqual([
    id('a'),
  ]);
  stub.routes.set(`GET /containers/${id('b')}/json`, (c) => c.json(stubContainer(id('b'), { labels: compose })));
  expect((await findSelf(engine, { clues })).facts).toMatchObject({ id: id('b'), project: 'shop' });
});

test('reports that it is outside a container, or on another engine', async () => {
  const error = await findSelf(engine, { clues: { cgroup: '0::/', mountinfo: '', hostname: 'laptop' } }).catch(
    (e: unknown) => e,
  );
  expect(error).toMatchObject({ code: 'AGENT_NOT_IN_CONTAINER', hint: expect.any(String) });
  // A container that merely has our hostname as its name is not the agent.
  const hostname = 'c'.repeat(12);
  stub.routes.set(`GET /containers/${hostname}/json`, (c) => c.json(stubContainer(id('d'), { name: hostname })));
  await expect(findSelf(engine, { clues: { cgroup: '', mountinfo: '', hostname } })).rejects.toMatchObject({
    code: 'AGENT_NOT_IN_CONTAINER',
  });
});

test('watching lists again after each connection and each change, and logs when the engine is unreachable', async () => {
  const connections: Call[] = [];
  const happened: string[] = [];
  const log: Log = { ...silentLog, info: (m) => happened.push(m), warn: (m) => happened.push(m) };
  const connect = (call: Call) => {
    connections.push(call);
    call.socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
  };
  // Sent in one piece: otherwise, the changes so far might be followed in between.
  const say = (event: object, times: number) => {
    const text = `${JSON.stringify(event)}\n`;
    connections.at(-1)?.socket.write(`${text.length.toString(16)}\r\n${text}\r\n`.repeat(times));
  };
  stub.routes.set('GET /events', connect);
  const controller = new AbortController();
  let listings = 0;
  const watching = watch(engine, { onChange: () => void listings++, log, signal: controller.signal, debounceMs: 40 });
  await vi.waitFor(() => expect(listings).toBe(1), LONG_WAIT);
  say({ Action: 'start', Actor: { ID: 'a' }, time: 4_000_000_000 }, 20);
  await vi.waitFor(() => expect(listings).toBe(2), LONG_WAIT);
  // A helper is not part of any plan.
  say({ Action: 'start', Actor: { ID: 'h', Attributes: { 'dev.lifeboat.run': 'r1' } }, time: 4_000_000_001 }, 1);
  stub.routes.set('GET /events', (c) => c.json({ message: 'starting' }, 500));
  connections.at(-1)?.socket.destroy();
  await vi.waitFor(() => expect(happened).toEqual(['the Docker engine cannot be reached; trying again']), LONG_WAIT);
  // Twenty events cause one listing, and that of the helper none.
  expect(listings).toBe(2);
  stub.routes.set('GET /events', connect);
  await vi.waitFor(() => expect(happened.at(-1)).toBe('the Docker engine is back'), LONG_WAIT);
  expect(connections).toHaveLength(2);
  expect(Number(connections[1]?.query.get('since'))).toBe(4_000_000_001);
  expect(JSON.parse(connections[1]?.query.get('filters') ?? '')).toMatchObject({ type: ['container'] });
  controller.abort();
  await watching;
});

test('a failed listing is logged and does not end the watching', async () => {
  const errors: string[] = [];
  stub.routes.set('GET /events', (call) => void call.socket.write('HTTP/1.1 200 OK\r\n\r\n'));
  const controller = new AbortController();
  const log: Log = { ...silentLog, error: (message) => errors.push(message) };
  const fail = () => Promise.reject(new Error('no'));
  const watching = watch(engine, { onChange: fail, log, signal: controller.signal, debounceMs: 10 });
  await vi.waitFor(() => expect(errors).toHaveLength(1), LONG_WAIT);
  controller.abort();
  await watching;
  expect(errors).toHaveLength(1);
});
