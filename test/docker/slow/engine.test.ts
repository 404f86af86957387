import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import { silentLog } from '../../../src/base/log.ts';
import { connectionOptions } from '../../../src/docker/docker-host.ts';
import { createEngine, type Engine } from '../../../src/docker/engine.ts';
import { isNotFound } from '../../../src/docker/engine-errors.ts';
import { type Route, type StubEngine, startStubEngine, stubContainer } from '../../harness/stub-engine.ts';

let stub: StubEngine;
let engine: Engine;
/**
 * A time limit for requests that never get a response. On a busy machine, reading an existing response may take longer.
 */
let quick: Engine;

beforeEach(async () => {
  stub = await startStubEngine();
  engine = createEngine({ dockerHost: stub.dockerHost, log: silentLog, plainMs: 20_000 });
  quick = createEngine({ dockerHost: stub.dockerHost, log: silentLog, plainMs: 200 });
});
afterEach(() => stub.close());

describe('an engine that sends invalid responses', () => {
  const invalid: [string, Route, string, RegExp][] = [
    ['garbage', (c) => c.text('{"Id": '), 'ENGINE_PROTOCOL', /no JSON/],
    ['a page of HTML', (c) => c.text('<html>'), 'ENGINE_PROTOCOL', /no JSON/],
    ['nothing', (c) => c.text(''), 'ENGINE_PROTOCOL', /cannot be right/],
    ['null', (c) => c.json(null), 'ENGINE_PROTOCOL', /cannot be right/],
    ['another shape', (c) => c.json({ Id: 7, State: [] }), 'ENGINE_PROTOCOL', /cannot be right: Id/],
    [
      'a state without truth',
      (c) => c.json(stubContainer('c1', { state: { Running: 'yes' } })),
      'ENGINE_PROTOCOL',
      /State.Running/,
    ],
    [
      '404',
      (c) => c.json({ message: 'No such container: c1' }, 404),
      'ENGINE_REFUSED',
      /No such container: c1 \(404\)/,
    ],
    ['500', (c) => c.json({ message: 'boom' }, 500), 'ENGINE_REFUSED', /boom \(500\)/],
    ['500 in plain text', (c) => c.text('a\n  proxy says no', 500), 'ENGINE_REFUSED', /a proxy says no \(500\)/],
    ['a hang up', (c) => c.socket.destroy(), 'ENGINE_UNREACHABLE', /hang up/],
    ['other data than HTTP', (c) => c.socket.end('\0\0\0 what?'), 'ENGINE_PROTOCOL', /did not speak HTTP/],
    [
      'half an answer',
      (c) => c.socket.end('HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"Id":'),
      'ENGINE_UNREACHABLE',
      /abort/,
    ],
  ];
  const silences: typeof invalid = [
    ['silence', () => {}, 'ENGINE_UNREACHABLE', /did not answer GET \/containers\/c1\/json in 200 ms/],
    [
      'half an answer, then silence',
      (c) => c.socket.write('HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{'),
      'ENGINE_UNREACHABLE',
      /200 ms/,
    ],
    [
      'half a refusal, then silence',
      (c) => c.socket.write('HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\n{'),
      'ENGINE_UNREACHABLE',
      /200 ms/,
    ],
    [
      'an upgrade nobody asked for',
      (c) => c.socket.write('HTTP/1.1 101 Hm\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n'),
      'ENGINE_UNREACHABLE',
      /./,
    ],
  ];
  const rejects = (asked: () => Engine) => async (_what: string, route: Route, code: string, message: RegExp) => {
    stub.routes.set('GET /containers/c1/json', route);
    const error = await asked()
      .inspectContainer('c1')
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(LifeboatError);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
  };
  test.each(invalid)(
    '%s',
    rejects(() => engine),
  );
  test.each(silences)(
    '%s',
    rejects(() => quick),
  );

  test('an endless response is given up, not collected', async () => {
    let sent = 0;
    stub.routes.set('GET /containers/json', ({ socket }) => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n[');
      const block = Buffer.alloc(1024 * 1024, ' ');
      const pump = () => {
        while (!socket.destroyed && socket.write(block)) sent += block.length;
        sent += block.length;
      };
      socket.on('drain', pump);
      pump();
    });
    await expect(engine.listContainers()).rejects.toMatchObject({ code: 'ENGINE_PROTOCOL' });
    expect(sent).toBeLessThan(64 * 1024 * 1024);
  });
});

test('404 is distinguished from other refusals', async () => {
  const gone = await engine.inspectContainer('nope').catch((e: unknown) => e);
  expect(isNotFound(gone)).toBe(true);
  stub.routes.set('GET /containers/c1/json', (c) => c.json({ message: 'x' }, 409));
  expect(isNotFound(await engine.inspectContainer('c1').catch((e: unknown) => e))).toBe(false);
  expect(isNotFound(new Error('404'))).toBe(false);
});

test('an unreachable engine comes with a hint', async () => {
  const nobody = createEngine({ dockerHost: 'unix:///nonexistent/docker.sock', log: silentLog });
  const error = await nobody.ping().catch((e: unknown) => e);
  expect(error).toMatchObject({ code: 'ENGINE_UNREACHABLE', hint: expect.stringContaining('/var/run/docker.sock') });
});

test('aborting its signal ends a call, with the reason of the signal', async () => {
  stub.routes.set('GET /_ping', () => {});
  const plain = new AbortController();
  setTimeout(() => plain.abort(), 10);
  await expect(engine.ping({ signal: plain.signal })).rejects.toMatchObject({ code: 'INTERRUPTED' });
  const reason = new LifeboatError('PG_STALLED', 'no progress');
  await expect(engine.ping({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});

test('"already started" and "already stopped" are no errors; stopping may take long', async () => {
  stub.routes.set('POST /containers/c1/start', (c) => c.text('', 304));
  stub.routes.set('POST /containers/c1/stop', (c) => {
    expect(c.query.get('t')).toBe('60');
    // This is longer than the time limit of other calls.
    setTimeout(() => c.text('', 304), 250);
  });
  await engine.startContainer('c1');
  await quick.stopContainer('c1', { timeout: 60 });
});

test('ids and names are escaped in the path', async () => {
  await engine.removeContainer('../images/x?force=1').catch(() => {});
  await engine.inspectImage('reg.example/a b:1').catch(() => {});
  expect(stub.requests).toEqual([
    'DELETE /containers/..%2Fimages%2Fx%3Fforce%3D1',
    'GET /images/reg.example/a%20b%3A1/json',
  ]);
});

test('a container is read as it is, and absent fields are empty', async () => {
  const mounts = [
    { Type: 'volume', Name: 'v', Source: '/var/lib/v', Destination: '/data', RW: true },
    { Type: 'bind', Name: '', Source: '/srv', Destination: '/srv', RW: false },
  ];
  stub.routes.set('GET /containers/c1/json', (c) => c.json(stubContainer('c1', { mounts })));
  expect(await engine.inspectContainer('c1')).toMatchObject({
    name: 'c1',
    running: true,
    labels: {},
    env: { A: '1=2', B: '' },
    mounts: [
      { type: 'volume', name: 'v', source: '/var/lib/v', destination: '/data', writable: true },
      { type: 'bind', source: '/srv', destination: '/srv', writable: false },
    ],
    networks: { net: { addresses: ['10.0.0.2'], aliases: [] } },
  });
});

test('a stream that the engine does not open is an error, not a wait', async () => {
  stub.routes.set('POST /exec/e1/start', (c) => c.text('hello'));
  await expect(engine.execStart('e1')).rejects.toMatchObject({
    code: 'ENGINE_PROTOCOL',
    hint: expect.stringContaining('proxy'),
  });
  stub.routes.set('POST /exec/e1/start', (c) => c.json({ message: 'container stopped' }, 409));
  await expect(engine.execStart('e1')).rejects.toMatchObject({
    code: 'ENGINE_REFUSED',
    message: expect.stringContaining('container stopped'),
  });
});

test.each<[string, Route]>([
  ['null', (c) => c.json(null, 201)],
  ['nothing', (c) => c.text('', 201)],
  ['another shape', (c) => c.json({ id: 'e1' }, 201)],
])('%s instead of the created id is a coded error', async (_what, route) => {
  stub.routes.set('POST /containers/c1/exec', route);
  stub.routes.set('POST /containers/create', route);
  const wrong = { code: 'ENGINE_PROTOCOL', message: expect.stringContaining('cannot be right') };
  await expect(engine.execCreate('c1', { argv: ['x'] })).rejects.toMatchObject(wrong);
  await expect(engine.createContainer('c1', {})).rejects.toMatchObject(wrong);
});

test('aborting any call closes its connection', async () => {
  const closed: string[] = [];
  const open = Promise.withResolvers<void>();
  stub.routes.set('GET /images/i1/json', (c) => {
    c.socket.once('close', () => closed.push('image'));
    open.resolve();
  });
  const stop = new AbortController();
  const asked = engine.inspectImage('i1', { signal: stop.signal });
  await open.promise;
  stop.abort();
  await expect(asked).rejects.toMatchObject({ code: 'INTERRUPTED' });
  await expect.poll(() => closed).toEqual(['image']);
});

test('the warnings of the engine about a new container are returned', async () => {
  stub.routes.set('POST /containers/create', (c) => {
    c.json({ Id: `made ${c.query.get('name')}`, Warnings: ['no swap limit'] }, 201);
  });
  expect(await engine.createContainer('a/b?c', {})).toEqual({ id: 'made a/b?c', warnings: ['no swap limit'] });
});

test('invalid events end the stream with a coded error', async () => {
  const signal = AbortSignal.timeout(60_000);
  const read = async (text: string) => {
    stub.routes.set('GET /events', (c) => c.text(text));
    const actions: string[] = [];
    for await (const event of await engine.events({ actions: ['start'], signal })) actions.push(event.action);
    return actions;
  };
  const good = '{"Action":"start","Actor":{"ID":"a","Attributes":null},"time":1,"timeNano":1500000000}\n';
  expect(await read(good + good)).toEqual(['start', 'start']);
  await expect(read(`${good}{"Action":`)).resolves.toEqual(['start']);
  await expect(read('{"Action":\n')).rejects.toMatchObject({ code: 'ENGINE_PROTOCOL' });
  await expect(read('{"Action":"start"}\n')).rejects.toMatchObject({ code: 'ENGINE_PROTOCOL' });
});

describe('DOCKER_HOST', () => {
  test.each([
    ['unix:///run/d.sock', {}, { socketPath: '/run/d.sock', host: undefined }],
    ['tcp://proxy:2375', {}, { host: 'proxy', port: '2375', protocol: 'http', socketPath: undefined }],
    ['proxy', {}, { host: 'proxy', port: '2375', protocol: 'http' }],
    ['tcp://far', { DOCKER_TLS_VERIFY: '1' }, { host: 'far', port: '2376', protocol: 'https' }],
  ])('%s', (host, env, wanted) => {
    expect(connectionOptions(host, env)).toMatchObject(wanted);
  });
  test('others are rejected, and so are missing certificates', () => {
    expect(() => connectionOptions('ssh://host', {})).toThrow(/not an address/);
    expect(() => connectionOptions('tcp://', {})).toThrow(/not an address/);
    expect(() => connectionOptions('tcp://h:2376', { DOCKER_CERT_PATH: '/nonexistent' })).toThrow(/cannot be read/);
    expect(connectionOptions(undefined, {})).toEqual({});
  });
});
