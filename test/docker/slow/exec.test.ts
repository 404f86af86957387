import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import { silentLog } from '../../../src/base/log.ts';
import { createEngine, type Engine } from '../../../src/docker/engine.ts';
import { execStream, execText } from '../../../src/docker/exec.ts';
import { execSocket } from '../../../src/docker/tunnel.ts';
import { frame, type StubEngine, startStubEngine, stubContainer, stubExec } from '../../harness/stub-engine.ts';

let stub: StubEngine;
let engine: Engine;

beforeEach(async () => {
  stub = await startStubEngine();
  engine = createEngine({ dockerHost: stub.dockerHost, log: silentLog, plainMs: 20_000, exitLagMs: 20_000 });
});
afterEach(() => stub.close());

const good = { Running: false, ExitCode: 0 };
const says =
  (...parts: Buffer[]) =>
  (socket: Socket) =>
    void socket.end(Buffer.concat(parts));
const run = (on = engine) => execText(on, 'box', { argv: ['tool', '--secret-looking'] });

test('returns both outputs and the status of a command', async () => {
  stubExec(stub, says(frame(1, 'out'), frame(2, 'err'), frame(1, 'put')), good);
  expect(await run()).toEqual({ exitCode: 0, stdout: 'output', stderr: 'err', truncated: false });
});

test('waits for an engine that records the end a little late', async () => {
  stubExec(stub, says(frame(1, 'x')), { Running: true, ExitCode: null }, { Running: false, ExitCode: null }, good);
  expect((await run()).exitCode).toBe(0);
});

test.each<[string, object, RegExp, number?]>([
  ['status 3', { Running: false, ExitCode: 3 }, /command "tool" in container box ended with status 3: oh no; really$/],
  ['a missing binary', { Running: false, ExitCode: 127 }, /status 127: oh no; really; on stdout/],
  ['an unknown status', { Running: false, ExitCode: null }, /ended with an unknown status/, 60],
  ['no status at all', { Running: false }, /ended with an unknown status/, 60],
  ['a cut connection', { Running: true, ExitCode: null }, /was cut off, but still runs/, 60],
  ['a killed command', { Running: false, ExitCode: 137 }, /was killed/],
])('%s is a failure although the stream ends cleanly', async (_what, state, message, exitLagMs = 20_000) => {
  stubExec(stub, says(frame(1, 'on stdout'), frame(2, 'oh no\nreally\n')), state);
  await expect(run({ ...engine, exitLagMs })).rejects.toMatchObject({
    code: 'EXEC_FAILED',
    message: expect.stringMatching(message),
  });
});

test('without check an exit status is a result, but a kill is an error', async () => {
  stubExec(stub, says(), { Running: false, ExitCode: 3 });
  expect((await execText(engine, 'box', { argv: ['x'], check: false })).exitCode).toBe(3);
  stubExec(stub, says(), { Running: false, ExitCode: 137 });
  stub.routes.set('GET /containers/box/json', (c) => c.json(stubContainer('box', { state: { Running: false } })));
  await expect(execText(engine, 'box', { argv: ['x'], check: false })).rejects.toThrow('killed with its container');
});

test('an exec that the engine no longer knows has lost its container', async () => {
  stubExec(stub, says(frame(1, 'x')), good);
  stub.routes.delete('GET /exec/e1/json');
  await expect(run()).rejects.toMatchObject({
    code: 'EXEC_FAILED',
    message: expect.stringContaining('lost its container'),
  });
});

test.each([
  ['a frame cut short', says(frame(1, 'abc', 10))],
  ['a frame of 4 GiB', says(frame(1, 'abc', 0xffffffff))],
  ['an unknown frame type', says(frame(9, 'abc'))],
])('%s is a coded error and not output', async (_what, stream) => {
  stubExec(stub, stream, good);
  const command = await execStream(engine, 'box', { argv: ['x'] });
  const read = text(command.stdout);
  await expect(read).rejects.toMatchObject({ code: 'ENGINE_PROTOCOL' });
  await expect(command.done).rejects.toMatchObject({ code: 'ENGINE_PROTOCOL' });
});

test('a failure also reaches the reader of stdout: the stream never ends as after a success', async () => {
  stubExec(stub, says(frame(1, 'half a dump')), { Running: false, ExitCode: 1 });
  const command = await execStream(engine, 'box', { argv: ['x'] });
  await expect(text(command.stdout)).rejects.toMatchObject({ code: 'EXEC_FAILED' });
});

test('a slow reader slows down the engine; nothing accumulates or is lost', async () => {
  const block = Buffer.alloc(64 * 1024, 'z');
  const total = 150;
  let sent = 0;
  const produce = (socket: Socket) => {
    const source = Readable.from(
      (function* () {
        for (; sent < total; sent++) yield frame(1, block);
      })(),
    );
    source.pipe(socket);
  };
  stubExec(stub, produce, good);
  const command = await execStream(engine, 'box', { argv: ['x'] });
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(sent).toBeLessThan(40);
  const hash = createHash('sha256');
  for await (const chunk of command.stdout) hash.update(chunk);
  const wanted = createHash('sha256');
  for (let i = 0; i < total; i++) wanted.update(block);
  expect(hash.digest('hex')).toBe(wanted.digest('hex'));
});

test('endless output uses limited memory: its start and end are kept', async () => {
  stubExec(stub, says(frame(1, `${'a'.repeat(5000)}${'b'.repeat(5000)}`)), good);
  const result = await execText(engine, 'box', { argv: ['x'], limit: 20 });
  expect(result).toMatchObject({ stdout: `aaaaaaaaaa\n[9980 B left out]\nbbbbbbbbbb`, truncated: true });
});

test('input and its end reach the command', async () => {
  const echo = (socket: Socket) => {
    socket.on('data', (data) => socket.write(frame(1, data)));
    socket.on('end', () => socket.end(frame(1, '.')));
  };
  stubExec(stub, echo, good);
  expect((await execText(engine, 'box', { argv: ['cat'], input: 'hello' })).stdout).toBe('hello.');
});

test('input that is cut fails the command, which must not take it as complete', async () => {
  stubExec(stub, (socket) => void socket.resume(), good);
  const command = await execStream(engine, 'box', { argv: ['restore'], stdin: 'pipe' });
  command.stdout.resume();
  const source = new Readable({ read() {} });
  source.push('half');
  setTimeout(() => source.destroy(new Error('disk gone')), 10);
  await expect(pipeline(source, command.stdin)).rejects.toThrow('disk gone');
  await expect(command.done).rejects.toMatchObject({
    code: 'EXEC_FAILED',
    message: expect.stringContaining('was cut'),
  });
});

test('a command that ends without reading its input reports its own error', async () => {
  const die = (socket: Socket) => {
    socket.write(frame(2, 'no space left'));
    setTimeout(() => socket.destroy(), 10);
  };
  stubExec(stub, die, { Running: false, ExitCode: 1 });
  const command = await execStream(engine, 'box', { argv: ['restore'], stdin: 'pipe' });
  command.stdout.resume();
  const endless = new Readable({
    read(size) {
      this.push(Buffer.alloc(size));
    },
  });
  const wanted = { code: 'EXEC_FAILED', message: expect.stringMatching(/status 1: no space left/) };
  await expect(pipeline(endless, command.stdin)).rejects.toMatchObject(wanted);
  await expect(command.done).rejects.toMatchObject(wanted);
});

test('aborting ends a silent command with the reason of the signal', async () => {
  stubExec(stub, () => {}, good);
  const reason = new LifeboatError('PG_STALLED', 'no progress');
  const controller = new AbortController();
  const command = await execStream(engine, 'box', { argv: ['x'], signal: controller.signal });
  setTimeout(() => controller.abort(reason), 10);
  await expect(text(command.stdout)).rejects.toBe(reason);
  await expect(command.done).rejects.toBe(reason);
});

test('a reader that gives up closes the connection', async () => {
  const closed = Promise.withResolvers<void>();
  stubExec(stub, (socket) => void socket.on('end', closed.resolve).resume(), good);
  const command = await execStream(engine, 'box', { argv: ['x'] });
  command.stdout.destroy();
  await closed.promise;
  await expect(command.done).rejects.toBeInstanceOf(LifeboatError);
});

test('as a socket: writes arrive joined, the end of one side ends the other, a failure is an error', async () => {
  const received: string[] = [];
  const server = (socket: Socket) => {
    socket.on('data', (data) => received.push(String(data)));
    socket.on('end', () => socket.end(frame(1, 'bye')));
  };
  stubExec(stub, server, good);
  const client = execSocket(engine, 'box', ['x']);
  client.cork();
  for (const part of ['a', 'b', 'c']) client.write(part);
  client.uncork();
  client.end();
  expect(await text(client)).toBe('bye');
  expect(received).toEqual(['abc']);

  stubExec(stub, says(frame(2, 'connection refused')), { Running: false, ExitCode: 69 });
  const refused = execSocket(engine, 'box', ['x']);
  await expect(text(refused)).rejects.toMatchObject({
    message: expect.stringMatching(/69: connection refused/),
  });
});

test('as a socket: an exec that cannot be created is an error event, not a crash', async () => {
  const socket = execSocket(engine, 'gone', ['x']);
  await expect(text(socket)).rejects.toMatchObject({ code: 'ENGINE_REFUSED' });
});
