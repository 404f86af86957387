import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { execText } from '../../src/docker/exec.ts';
import { type Helper, startHelper } from '../../src/docker/helper.ts';
import { execSocket, tunnelArgv } from '../../src/docker/tunnel.ts';
import { useBench } from './containers.ts';

const bench = useBench();
const { engine } = bench;
let database: string;
let helper: Helper;

const connect = async (port = 5432) => {
  const stream = execSocket(engine, helper.id, tunnelArgv(port));
  const client = new pg.Client({ stream: () => stream, user: 'postgres', database: 'postgres' });
  client.on('error', () => {});
  await client.connect();
  return { client, stream };
};
/** Lists the processes in the helper, except its init, its idle process and this command. */
const processes = async () => {
  const script = 'for p in /proc/[0-9]*; do tr "\\0" " " <$p/cmdline 2>/dev/null; echo; done';
  const { stdout } = await execText(engine, helper.id, { argv: ['bash', '-c', script] });
  return stdout.split('\n').filter((line) => /^(dd|bash -c.*dev\/tcp|sleep 2)\b/.test(line));
};
const noneLeft = async () => {
  for (let i = 0; i < 600 && (await processes()).length > 0; i++) await sleep(100);
  return processes();
};

beforeAll(async () => {
  database = await bench.start({ image: 'postgres:17', cmd: ['postgres'], env: ['POSTGRES_PASSWORD=x'] });
  helper = await startHelper(
    { engine, recordBefore: async () => {}, log: silentLog },
    {
      purpose: 'tunnel',
      runId: 'run-1',
      project: `test-${bench.mark}`,
      agent: 'agent-1',
      image: 'postgres:17',
      networkMode: `container:${database}`,
      labels: { 'dev.lifeboat.test': bench.mark },
    },
  );
  const ready = ['bash', '-c', 'until pg_isready -qh 127.0.0.1; do sleep 0.1; done'];
  await execText(engine, helper.id, { argv: ready, signal: AbortSignal.timeout(200_000) });
});

test('a thousand queries take far less than a delayed acknowledgement each', async () => {
  const from = performance.now();
  const { client } = await connect();
  const connected = performance.now();
  const took: number[] = [];
  for (let i = 0; i < 1000; i++) {
    const asked = performance.now();
    const { rows } = await client.query('SELECT $1::int + 1 AS n', [i]);
    took.push(performance.now() - asked);
    expect(rows[0].n).toBe(i + 1);
  }
  took.sort((a, b) => a - b);
  expect(await processes()).not.toEqual([]);
  await client.end();
  console.log(`tunnel: ${Math.round(connected - from)} ms to connect, ${took[500]?.toFixed(2)} ms a query`);
  // A delayed acknowledgement costs 40 ms. This is no mean, because a machine that stalls for seconds delays a few
  // queries more.
  expect(took[800]).toBeLessThan(30);
  expect(await noneLeft()).toEqual([]);
});

test('more than 100 MB are transferred whole, in both directions', async () => {
  const { client } = await connect();
  const from = performance.now();
  let bytes = 0;
  for (let i = 0; i < 15; i++) {
    const { rows } = await client.query("SELECT repeat('x', 8000000) AS x");
    bytes += rows[0].x.length;
  }
  const rate = bytes / 1000 / (performance.now() - from);
  console.log(`tunnel: ${Math.round(bytes / 1e6)} MB at ${Math.round(rate)} MB/s`);
  expect(bytes).toBe(120_000_000);
  const up = 'y'.repeat(30_000_000);
  const { rows } = await client.query('SELECT md5($1) = md5(repeat($2, 30000000)) AS same', [up, 'y']);
  expect(rows[0].same).toBe(true);
  await client.end();
});

test('if the server closes, the client ends with an error, and no process remains', async () => {
  const { client } = await connect();
  const query = client.query('SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(5)');
  await expect(query).rejects.toThrow();
  expect(await noneLeft()).toEqual([]);
});

test('if the client vanishes, its session on the server ends, and no process remains', async () => {
  const { client, stream } = await connect();
  const { rows } = await client.query('SELECT pg_backend_pid() AS pid');
  const watcher = await connect();
  const alive = async () => {
    const result = await watcher.client.query('SELECT FROM pg_stat_activity WHERE pid = $1', [rows[0].pid]);
    return result.rowCount;
  };
  expect(await alive()).toBe(1);
  stream.destroy();
  for (let i = 0; i < 600 && (await alive()) === 1; i++) await sleep(100);
  expect(await alive()).toBe(0);
  await watcher.client.end();
  expect(await noneLeft()).toEqual([]);
});

test('a port on which nobody listens is reported as such', async () => {
  await expect(connect(5999)).rejects.toMatchObject({
    code: 'EXEC_FAILED',
    message: expect.stringMatching(/status 69.*refused/),
  });
});
