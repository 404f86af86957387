import type { Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import { type Log, silentLog } from '../../../src/base/log.ts';
import { createEngine, type Engine } from '../../../src/docker/engine.ts';
import { createBody, type HelperSpec, helperMount, startHelper } from '../../../src/docker/helper.ts';
import type { HelperLabels } from '../../../src/docker/helper-labels.ts';
import { hasHelpers, reapHelpers } from '../../../src/docker/remove-helper.ts';
import { runHelper } from '../../../src/docker/run-helper.ts';
import { frame, type Route, type StubEngine, startStubEngine, stubContainer } from '../../harness/stub-engine.ts';

let stub: StubEngine;
let engine: Engine;
let recorded: string[];

const spec: HelperSpec = { purpose: 'dump', runId: 'r1', project: 'shop', agent: 'a1', image: 'img' };
const context = (of = engine) => ({
  engine: of,
  recordBefore: async (name: string) => {
    expect(stub.requests).not.toContain('POST /containers/create');
    recorded.push(name);
  },
  log: silentLog,
});

beforeEach(async () => {
  stub = await startStubEngine();
  engine = createEngine({ dockerHost: stub.dockerHost, log: silentLog, plainMs: 20_000, exitLagMs: 20_000 });
  recorded = [];
  stub.routes.set('GET /images/img/json', (c) => c.json({ Id: 'sha256:i', Config: { Labels: null } }));
  stub.routes.set('POST /containers/create', (c) => c.json({ Id: 'h1', Warnings: null }, 201));
  stub.routes.set('POST /containers/h1/start', (c) => c.text('', 204));
});
afterEach(() => stub.close());

const removals = () => stub.requests.filter((request) => request.startsWith('DELETE'));
const refuse =
  (message: string, status = 500): Route =>
  (c) =>
    c.json({ message }, status);

test('is recorded by name before it is created, and removed by that name', async () => {
  const helper = await startHelper(context(), spec);
  expect(recorded).toEqual([helper.name]);
  expect(helper.name).toMatch(/^lifeboat-shop-dump-[0-9a-f]{8}$/);
  await helper.remove();
  expect(removals()).toEqual([`DELETE /containers/${helper.name}`]);
});

test.each([
  ['cannot be created', 'POST /containers/create', /could not be created: .*no space/],
  ['cannot be started', 'POST /containers/h1/start', /could not be started: .*no space/],
])('a helper that %s is an error, and nothing of it stays', async (_what, route, message) => {
  stub.routes.set(route, refuse('no space'));
  await expect(startHelper(context(), spec)).rejects.toMatchObject({
    code: 'HELPER_FAILED',
    message: expect.stringMatching(message),
  });
  expect(removals()).toEqual([`DELETE /containers/${recorded[0]}`]);
});

test('a lost response after the container was created leaves nothing behind either', async () => {
  stub.routes.set('POST /containers/create', () => {});
  // Short for this call only: the others must get a response, however slow the machine is.
  const { createContainer } = createEngine({ dockerHost: stub.dockerHost, log: silentLog, plainMs: 300 });
  await expect(startHelper(context({ ...engine, createContainer }), spec)).rejects.toMatchObject({
    code: 'ENGINE_UNREACHABLE',
  });
  expect(removals()).toHaveLength(1);
});

test('a run that is stopped while the engine creates a helper waits for it, and removes it', async () => {
  const order: string[] = [];
  const run = new AbortController();
  const stopped = new LifeboatError('INTERRUPTED', 'the run was asked to stop');
  stub.routes.set('POST /containers/create', (c) => {
    run.abort(stopped);
    setTimeout(() => {
      order.push('made');
      c.json({ Id: 'h1', Warnings: null }, 201);
    }, 30);
  });
  const recordBefore = async (given: string) => {
    recorded.push(given);
    stub.routes.set(`DELETE /containers/${given}`, (c) => {
      order.push('removed');
      c.text('', 204);
    });
  };
  await expect(startHelper({ ...context(), recordBefore, signal: run.signal }, spec)).rejects.toBe(stopped);
  expect(order).toEqual(['made', 'removed']);
  expect(removals()).toEqual([`DELETE /containers/${recorded[0]}`]);
  expect(stub.requests).not.toContain('POST /containers/h1/start');
});

test('an engine that does not support the block I/O weight is tried again without it', async () => {
  let starts = 0;
  stub.routes.set('POST /containers/h1/start', (c) =>
    starts++ === 0 ? refuse('io.weight: no such file')(c) : c.text('', 204),
  );
  await startHelper({ ...context(), recordBefore: async (name) => void recorded.push(name) }, spec);
  expect(starts).toBe(2);
  expect(recorded).toHaveLength(2);
  expect(removals()).toEqual([`DELETE /containers/${recorded[0]}`]);
});

test('is confined, quiet, and never looks like a container of the user', () => {
  const labels = { 'com.docker.compose.project': 'shop', 'lifeboat.postgres': 'true', maintainer: 'x', lifeboats: 'y' };
  const body = createBody({ ...spec, capAdd: ['CHOWN'] }, labels, { attached: false, blkio: true });
  expect(body).toMatchObject({
    Labels: {
      'com.docker.compose.project': '',
      'lifeboat.postgres': '',
      'dev.lifeboat.run': 'r1',
      'dev.lifeboat.project': 'shop',
      'dev.lifeboat.agent': 'a1',
    },
    Entrypoint: ['/bin/sh'],
    Healthcheck: { Test: ['NONE'] },
    HostConfig: {
      NetworkMode: 'none',
      Init: true,
      SecurityOpt: ['no-new-privileges'],
      CapDrop: ['ALL'],
      CapAdd: ['CHOWN'],
      LogConfig: { Type: 'none' },
    },
  });
  expect(Object.keys((body as { Labels: object }).Labels)).toHaveLength(5);
  expect(JSON.stringify(createBody(spec, {}, { attached: false, blkio: false }))).not.toContain('Blkio');
});

test('a mount is passed on as the volume or directory that it is', () => {
  const volume = { type: 'volume', name: 'v', source: '/var/lib/docker/v', destination: '/d', writable: true };
  expect(helperMount(volume, '/s', false)).toEqual({ type: 'volume', source: 'v', target: '/s', readOnly: true });
  const bind = { type: 'bind', source: '/srv', destination: '/d', writable: false };
  expect(helperMount(bind, '/s', true)).toEqual({ type: 'bind', source: '/srv', target: '/s', readOnly: false });
});

test('cleanup removes only helpers of this project whose run is over', async () => {
  const row = (name: string, labels: object) => ({ Id: `id-${name}`, Names: [`/${name}`], Created: 1, Labels: labels });
  stub.routes.set('GET /containers/json', (c) => {
    expect(JSON.parse(c.query.get('filters') ?? '')).toEqual({
      label: ['dev.lifeboat.run', 'dev.lifeboat.project=shop'],
    });
    // If an engine ignores the filter, other helpers must not be removed.
    c.json([
      row('old', { 'dev.lifeboat.run': 'r0', 'dev.lifeboat.project': 'shop' }),
      row('stuck', { 'dev.lifeboat.run': 'r0', 'dev.lifeboat.project': 'shop' }),
      row('kept', { 'dev.lifeboat.run': 'r1', 'dev.lifeboat.project': 'shop' }),
      row('marker', { 'dev.lifeboat.run': 'lock', 'dev.lifeboat.project': 'shop' }),
      row('others', { 'dev.lifeboat.run': 'r0', 'dev.lifeboat.project': 'shop', 'dev.lifeboat.agent': 'a2' }),
      row('other', { 'dev.lifeboat.run': 'r0', 'dev.lifeboat.project': 'shop-staging' }),
      row('users', { 'com.docker.compose.project': 'shop' }),
    ]);
  });
  stub.routes.set('DELETE /containers/id-old', (c) => {
    expect(Object.fromEntries(c.query)).toEqual({ force: '1', v: '1' });
    c.text('', 204);
  });
  stub.routes.set('DELETE /containers/id-stuck', refuse('device busy'));
  const warnings: unknown[] = [];
  const log: Log = { ...silentLog, warn: (_message, fields) => warnings.push(fields?.name) };
  const keep = async ({ runId, agent }: HelperLabels) => runId === 'r1' || agent === 'a2';
  const { found, living } = await reapHelpers({ ...engine, exitLagMs: 0 }, 'shop', keep, log);
  expect(found).toEqual(['old', 'stuck']);
  expect(removals().sort()).toEqual(['DELETE /containers/id-old', 'DELETE /containers/id-stuck']);
  // These belong to the helpers that were kept, and to the one that still exists.
  expect([...living].sort()).toEqual(['r0', 'r1']);
  expect(warnings).toEqual(['stuck']);
});

test('is gone only when the engine confirms it, not while its removal is in progress', async () => {
  const helper = await startHelper(context(), spec);
  const answers = [refuse('timed out'), refuse('already in progress', 409), refuse('no such container', 404)];
  stub.routes.set(`DELETE /containers/${helper.name}`, (c) => answers.shift()?.(c));
  await helper.remove();
  expect(answers).toEqual([]);
});

test.each([
  ['running', true],
  ['exited', false],
])('a helper of a run that is %s may still write: %s', async (State, may) => {
  stub.routes.set('GET /containers/json', (c) => {
    expect(JSON.parse(c.query.get('filters') ?? '')).toEqual({
      label: ['dev.lifeboat.run=r1', 'dev.lifeboat.project=shop'],
    });
    c.json([{ Id: 'h1', Names: ['/h1'], Image: 'i', State, Created: 1, Labels: {} }]);
  });
  expect(await hasHelpers(engine, 'shop', 'r1')).toBe(may);
});

/** Routes for a one-shot helper: what its stream does, and how it ends. */
function oneShot(
  stream: (socket: Socket) => void,
  end: { exitCode?: number; state?: object; wait?: Route } = {},
): void {
  const { exitCode = 0 } = end;
  const state = { Status: 'exited', Running: false, ExitCode: exitCode, ...end.state };
  stub.routes.set('POST /containers/h1/attach', (c) => {
    expect(stub.requests).not.toContain('POST /containers/h1/start');
    stream(c.upgrade());
  });
  stub.routes.set('POST /containers/h1/wait', end.wait ?? ((c) => c.json({ StatusCode: exitCode })));
  stub.routes.set('GET /containers/h1/json', (c) => c.json(stubContainer('h1', { state })));
}

const run = async (onLine: (value: unknown) => void | Promise<void> = () => {}, signal?: AbortSignal) =>
  runHelper({ ...context(), signal }, { ...spec, cmd: ['x'] }, { input: { job: 1 }, onLine });

test('a one-shot helper gets its input, returns its lines, and is gone afterwards', async () => {
  oneShot((socket) => {
    socket.once('data', (data) => {
      socket.write(frame(1, '{"got":'));
      socket.end(Buffer.concat([frame(1, `${String(data).trim()}}\n7`), frame(2, 'noise'), frame(1, '\n')]));
    });
  });
  const lines: unknown[] = [];
  await run((line) => void lines.push(line));
  expect(lines).toEqual([{ got: { job: 1 } }, 7]);
  expect(removals()).toEqual([`DELETE /containers/${recorded[0]}`]);
});

const end =
  (...parts: Buffer[]) =>
  (socket: Socket) =>
    void socket.resume().end(Buffer.concat(parts));
test.each([
  [
    'a status',
    () => oneShot(end(frame(2, 'bad disk\n')), { exitCode: 4 }),
    'HELPER_FAILED',
    /ended with status 4: bad disk/,
  ],
  [
    'out of memory',
    () => oneShot(end(), { exitCode: 137, state: { OOMKilled: true } }),
    'HELPER_FAILED',
    /ran out of memory/,
  ],
  ['contradicting statuses', () => oneShot(end(), { state: { ExitCode: 1 } }), 'HELPER_FAILED', /status 1/],
  [
    'a cut connection',
    () => {
      engine = { ...engine, exitLagMs: 60 };
      oneShot(end(frame(1, '1\n')), { wait: () => {} });
    },
    'HELPER_FAILED',
    /cut off, but still runs/,
  ],
  ['half a line', () => oneShot(end(frame(1, '1\n{"a"'))), 'HELPER_FAILED', /ended inside a line/],
  [
    'a line that is not JSON',
    () => oneShot(end(frame(1, 'Segmentation fault\n'))),
    'HELPER_FAILED',
    /not JSON: Segmentation fault/,
  ],
  ['a broken stream', () => oneShot(end(frame(7, 'x'))), 'ENGINE_PROTOCOL', /frame/],
  [
    'an error of the wait',
    () => oneShot(end(), { wait: (c) => c.json({ StatusCode: 0, Error: { Message: 'gone' } }) }),
    'HELPER_FAILED',
    /gone/,
  ],
])('a one-shot helper ending with %s is an error, and gone', async (_what, prepare, code, message) => {
  prepare();
  await expect(run()).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  expect(removals()).toEqual([`DELETE /containers/${recorded[0]}`]);
});

test('an error of the line handler is thrown unchanged', async () => {
  oneShot(end(frame(1, '1\n')));
  const own = new Error('mine');
  await expect(run(() => Promise.reject(own))).rejects.toBe(own);
  expect(removals()).toHaveLength(1);
});

test('aborting removes the helper at once', async () => {
  oneShot((socket) => void socket.resume());
  const controller = new AbortController();
  // Not before: a helper that was never created is never removed.
  stub.routes.set('POST /containers/h1/start', (c) => {
    c.text('', 204);
    setTimeout(() => controller.abort(), 30);
  });
  await expect(run(() => {}, controller.signal)).rejects.toMatchObject({ code: 'INTERRUPTED' });
  expect(removals()).toHaveLength(1);
});
