import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { type AddressInfo, connect, createServer } from 'node:net';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { createEngine } from '../../src/docker/engine.ts';
import { execStream, execText } from '../../src/docker/exec.ts';
import { execSocket } from '../../src/docker/tunnel.ts';
import { startSocketProxy } from '../harness/socket-proxy.ts';
import { useBench } from './containers.ts';

const bench = useBench();
const { engine } = bench;
let box: string;
beforeAll(async () => {
  box = await bench.start();
});

const sh = (script: string, ...args: string[]) => ['bash', '-c', script, 'test', ...args];

test('returns status and outputs, and sets environment, user and directory', async () => {
  const script = 'echo "$A $(id -u) $PWD"; echo oops >&2; exit 7';
  const argv = sh(script);
  const result = await execText(engine, box, {
    argv,
    env: { A: 'x=y z' },
    user: '65534',
    workdir: '/usr',
    check: false,
  });
  expect(result).toEqual({ exitCode: 7, stdout: 'x=y z 65534 /usr\n', stderr: 'oops\n', truncated: false });
  await expect(execText(engine, box, { argv })).rejects.toMatchObject({
    code: 'EXEC_FAILED',
    message: expect.stringMatching(/^command "bash" in container [0-9a-f]{12} ended with status 7: oops$/),
  });
});

test('removes variables that the container has', async () => {
  const argv = ['printenv', 'HOSTNAME'];
  expect(await execText(engine, box, { argv })).toMatchObject({ exitCode: 0 });
  expect(await execText(engine, box, { argv, unset: ['HOSTNAME', 'NO_SUCH'], check: false })).toMatchObject({
    exitCode: 1,
  });
});

test('a missing binary is named in the error', async () => {
  await expect(execText(engine, box, { argv: ['no-such-tool'] })).rejects.toMatchObject({
    code: 'EXEC_FAILED',
    message: expect.stringMatching(/no-such-tool.*(not found|executable file)/),
  });
});

test('a container killed in the middle is an error, although the engine ends the stream cleanly', async () => {
  const victim = await bench.start();
  const command = await execStream(engine, victim, {
    argv: sh('while :; do head -c 100000 /dev/zero; sleep 0.01; done'),
  });
  let bytes = 0;
  const reading = (async () => {
    for await (const chunk of command.stdout) bytes += chunk.length;
  })();
  reading.catch(() => {});
  while (bytes < 1_000_000) await sleep(10);
  await promisify(execFile)('docker', ['kill', victim]);
  await expect(command.done).rejects.toMatchObject({
    code: 'EXEC_FAILED',
    message: expect.stringMatching(/was killed|lost its container/),
  });
  await expect(reading).rejects.toMatchObject({ code: 'EXEC_FAILED' });
});

test('a killed command is an error', async () => {
  await expect(execText(engine, box, { argv: sh('kill -9 $$'), check: false })).rejects.toThrow('was killed');
});

test('large output reaches a slow reader whole', async () => {
  const size = 256 * 1024 * 1024;
  const script = 'head -c "$1" /dev/urandom | tee >(sha256sum >&2)';
  let sum = '';
  const command = await execStream(engine, box, {
    argv: sh(script, String(size)),
    onStderr: (chunk) => {
      sum += String(chunk);
    },
  });
  const before = process.memoryUsage().rss;
  await sleep(500);
  const hash = createHash('sha256');
  let bytes = 0;
  let pauses = 0;
  for await (const chunk of command.stdout as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    hash.update(chunk);
    if (bytes > pauses * 4 * 1024 * 1024) {
      pauses++;
      await sleep(10);
    }
  }
  await command.done;
  expect(bytes).toBe(size);
  expect(hash.digest('hex')).toBe(sum.split(' ')[0]);
  expect(process.memoryUsage().rss - before).toBeLessThan(128 * 1024 * 1024);
});

test('input arrives whole, its end is seen, and output still comes after it', async () => {
  const data = randomBytes(20 * 1024 * 1024);
  const command = await execStream(engine, box, { argv: sh('sha256sum; sleep 0.2; echo after'), stdin: 'pipe' });
  const output: Buffer[] = [];
  const reading = (async () => {
    for await (const chunk of command.stdout as AsyncIterable<Buffer>) output.push(chunk);
  })();
  await pipeline(Readable.from([data.subarray(0, 5_000_000), data.subarray(5_000_000)]), command.stdin);
  await reading;
  expect(Buffer.concat(output).toString()).toBe(`${createHash('sha256').update(data).digest('hex')}  -\nafter\n`);
});

test('without input a command reads an empty one', async () => {
  expect((await execText(engine, box, { argv: ['cat'] })).stdout).toBe('');
});

test('a command that stops reading its input is an error with the output of the command', async () => {
  const command = await execStream(engine, box, {
    argv: sh('head -c 10 >/dev/null; echo full >&2; exit 3'),
    stdin: 'pipe',
  });
  command.stdout.resume();
  const endless = new Readable({
    read(size) {
      this.push(Buffer.alloc(size));
    },
  });
  const feeding = pipeline(endless, command.stdin);
  feeding.catch(() => {});
  await expect(command.done).rejects.toMatchObject({
    code: 'EXEC_FAILED',
    message: expect.stringContaining('status 3'),
  });
  await expect(feeding).rejects.toMatchObject({ code: 'EXEC_FAILED' });
});

test('all of this also works over TCP, as through a socket proxy', async () => {
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const socket = connect({ path: '/var/run/docker.sock', allowHalfOpen: true });
    client.pipe(socket).pipe(client);
    client.on('error', () => socket.destroy());
    socket.on('error', () => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const remote = createEngine({ dockerHost: `tcp://127.0.0.1:${port}`, log: silentLog });
  const input = randomBytes(3_000_000);
  const { stdout } = await execText(remote, box, { argv: ['sha256sum'], input });
  expect(stdout).toBe(`${createHash('sha256').update(input).digest('hex')}  -\n`);
  await new Promise((resolve) => server.close(resolve));
});

test('heartbeats keep a command alive through a proxy that cuts silent connections; without them it never counts as a success', async () => {
  const socket = (process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock').replace('unix://', '');
  const proxy = await startSocketProxy(socket, { GET: /./, POST: /./ }, { idleMs: 8000 });
  const through = createEngine({ dockerHost: `tcp://127.0.0.1:${proxy.port}`, log: silentLog, exitLagMs: 100 });
  try {
    const argv = sh('echo begun; sleep 20; echo said >&2; echo done');
    const silent = execText(through, box, { argv });
    const beating = execText(through, box, { argv, heartbeat: 1 });
    const failing = execText(through, box, { argv: sh('sleep 12; echo no >&2; exit 7'), heartbeat: 1 });
    const socketed = execSocket(through, box, sh('sleep 12; echo late'), { heartbeat: 1 });
    const [first, second, third, fourth] = await Promise.allSettled([silent, beating, failing, text(socketed)]);
    expect(first).toMatchObject({ status: 'rejected', reason: { code: 'EXEC_FAILED' } });
    expect(second).toMatchObject({ value: { stdout: 'begun\ndone\n', stderr: 'said\n', exitCode: 0 } });
    expect(third).toMatchObject({ reason: { message: expect.stringMatching(/^command "bash" .* status 7: no$/) } });
    expect(fourth).toMatchObject({ value: 'late\n' });
  } finally {
    await proxy.close();
  }
});

test('heartbeats change neither input nor result of a command, and leave nothing behind', async () => {
  const argv = sh('cat; printf "%s." "$@"; exit 3', 'a b', '$(x)', '');
  const ran = await execText(engine, box, { argv, input: 'in\0put\n', heartbeat: 1, check: false });
  expect(ran).toMatchObject({ stdout: 'in\0put\na b.$(x)..', stderr: '', exitCode: 3 });
  await expect(execText(engine, box, { argv: ['no-such-binary'], heartbeat: 1 })).rejects.toMatchObject({
    message: expect.stringMatching(/^command "no-such-binary" .* ended with status 127: .*not found/),
  });
  const shells = sh(
    'for i in $(seq 100); do grep -lx sleep /proc/[0-9]*/comm | wc -l | grep -qx 1 && exit; sleep 0.1; done; exit 1',
  );
  await execText(engine, box, { argv: shells });
});
