import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterEach, expect, test, vi } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { listFacts, watch } from '../../src/docker/discover.ts';
import { isNotFound } from '../../src/docker/engine-errors.ts';
import { execText } from '../../src/docker/exec.ts';
import { type HelperSpec, startHelper } from '../../src/docker/helper.ts';
import { reapHelpers } from '../../src/docker/remove-helper.ts';
import { runHelper } from '../../src/docker/run-helper.ts';
import { LONG_WAIT } from '../harness/wait.ts';
import { IMAGE, useBench } from './containers.ts';

const bench = useBench();
const { engine } = bench;
const project = `test-${bench.mark}`;
const context = { engine, recordBefore: async () => {}, log: silentLog };
const spec: HelperSpec = {
  purpose: 'work',
  runId: 'run-1',
  project,
  agent: 'agent-1',
  image: IMAGE,
  labels: { 'dev.lifeboat.test': bench.mark },
};

afterEach(async () => {
  await reapHelpers(engine, project, () => false, silentLog);
});

test('starts confined, runs commands by exec, stops at once, and is removed', async () => {
  const helper = await startHelper(context, { ...spec, tmpfs: { '/run/x': 'size=1m,mode=0700' } });
  const script =
    'grep -E "CapEff|NoNewPrivs" /proc/self/status; stat -c %a /run/x; cat /proc/1/comm; ls /sys/class/net';
  const { stdout } = await execText(engine, helper.id, { argv: ['sh', '-c', script] });
  expect(stdout.replace(/\s+/g, ' ')).toMatch(/CapEff: 0{16} NoNewPrivs: 1 700 .*init lo/);
  const from = performance.now();
  // A helper that ignores the signal is killed after a minute.
  await engine.stopContainer(helper.id, { timeout: 60 });
  expect(performance.now() - from).toBeLessThan(55_000);
  await helper.remove();
  await helper.remove();
  const gone = await engine.inspectContainer(helper.id).catch((error: unknown) => error);
  expect(isNotFound(gone)).toBe(true);
});

test('is not taken for a container of the user, whatever its labels', async () => {
  const labels = { ...spec.labels, 'com.docker.compose.project': project, 'lifeboat.postgres': 'true' };
  const user = await bench.start({ labels });
  await startHelper(context, { ...spec, labels });
  const mine = (await listFacts(engine)).filter((facts) => facts.project === project);
  expect(mine.map(({ id }) => id)).toEqual([user]);
});

test('cleanup removes leftovers of dead runs, but not of live runs or other projects', async () => {
  const left = await startHelper(context, spec);
  const live = await startHelper(context, { ...spec, runId: 'run-2' });
  const other = await startHelper(context, { ...spec, project: `${project}-staging` });
  const reaped = await reapHelpers(engine, project, ({ runId }) => runId === 'run-2', silentLog);
  expect(reaped).toEqual({ found: [left.name], living: new Set(['run-2']) });
  expect((await engine.inspectContainer(live.id)).running).toBe(true);
  expect((await engine.inspectContainer(other.id)).running).toBe(true);
  await other.remove();
});

test('cleanup removes a volume of one helper that another one mounts', async () => {
  const target = '/lifeboat/data';
  const first = await startHelper(context, {
    ...spec,
    mounts: [{ type: 'volume', source: '', target, readOnly: false }],
  });
  const [mount] = (await engine.inspectContainer(first.id)).mounts;
  const volume = mount?.name as string;
  expect(volume).toMatch(/^[0-9a-f]{64}$/);
  for (let n = 0; n < 2; n++)
    await startHelper(context, { ...spec, mounts: [{ type: 'volume', source: volume, target, readOnly: true }] });
  // A container that is not running is removed fast.
  await engine.stopContainer(first.id, { timeout: 0 });
  await reapHelpers(engine, project, () => false, silentLog);
  const gone = await engine.inspectVolume(volume).catch((error: unknown) => error);
  expect(isNotFound(gone)).toBe(true);
});

test('a missing image is an error, and nothing is created', async () => {
  await expect(startHelper(context, { ...spec, image: 'no.such/image:1' })).rejects.toMatchObject({
    code: 'HELPER_FAILED',
  });
});

const oneShot = async (script: string, onLine: (value: unknown) => void, signal?: AbortSignal) =>
  runHelper({ ...context, signal }, { ...spec, cmd: ['sh', '-c', script] }, { input: { n: 3 }, onLine });
const leftovers = async () => (await engine.listContainers({ labels: [`dev.lifeboat.project=${project}`] })).length;

test('one shot: reads its input, returns every line, and is gone', async () => {
  const lines: unknown[] = [];
  await oneShot('echo \'"first"\'; cat; i=0; while [ $i -lt 5000 ]; do i=$((i+1)); echo $i; done', (line) =>
    lines.push(line),
  );
  expect(lines).toEqual(['first', { n: 3 }, ...Array.from({ length: 5000 }, (_, i) => i + 1)]);
  expect(await leftovers()).toBe(0);
});

test('one shot: a failure contains the status and the end of stderr', async () => {
  await expect(oneShot('echo 1; echo broken disk >&2; exit 5', () => {})).rejects.toMatchObject({
    code: 'HELPER_FAILED',
    message: 'helper "work" ended with status 5: broken disk',
  });
  expect(await leftovers()).toBe(0);
});

test('one shot: if it is killed, or ends on a signal, it is an error, and gone', async () => {
  const killed = oneShot('echo 1; sleep 60', async () => {
    const [helper] = await engine.listContainers({ labels: [`dev.lifeboat.project=${project}`] });
    await promisify(execFile)('docker', ['kill', helper?.id ?? '']);
  });
  await expect(killed).rejects.toMatchObject({ code: 'HELPER_FAILED', message: expect.stringContaining('status 137') });
  const controller = new AbortController();
  const stopped = oneShot('echo 1; sleep 60', () => controller.abort(), controller.signal);
  await expect(stopped).rejects.toMatchObject({ code: 'INTERRUPTED' });
  expect(await leftovers()).toBe(0);
});

test('watching notices new and removed containers', async () => {
  const controller = new AbortController();
  const label = { 'dev.lifeboat.watched': bench.mark };
  let seen: string[] | undefined;
  const onChange = async () => {
    const listed = await engine.listContainers({ labels: [`dev.lifeboat.watched=${bench.mark}`] });
    seen = listed.map(({ state }) => state);
  };
  const watching = watch(engine, { onChange, log: silentLog, signal: controller.signal, debounceMs: 20 });
  await vi.waitFor(() => expect(seen).toEqual([]), LONG_WAIT);
  const id = await bench.start({ labels: label });
  await vi.waitFor(() => expect(seen).toEqual(['running']), LONG_WAIT);
  await engine.removeContainer(id, { force: true });
  await vi.waitFor(() => expect(seen).toEqual([]), LONG_WAIT);
  controller.abort();
  await watching;
});
