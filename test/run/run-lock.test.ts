import { beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { Engine } from '../../src/docker/engine.ts';
import { isLocked } from '../../src/run/process-lock.ts';
import { takeRunLock } from '../../src/run/run-lock.ts';

const project = `shop-${process.pid}`;
const MARKER = `lifeboat-${project}-lock`;

interface Made {
  id: string;
  name: string;
  labels: Record<string, string>;
}

/** An engine with agents, helpers and markers, which allows each name once. */
let running: Map<string, boolean>;
let made: Made[];
let refusal: number | undefined;
let onCreate: () => void;

const refused = (statusCode: number) =>
  new LifeboatError('ENGINE_REFUSED', 'no', { cause: Object.assign(new Error('no'), { statusCode }) });

beforeEach(() => {
  running = new Map([
    ['a1', true],
    ['a2', true],
  ]);
  made = [];
  refusal = undefined;
  onCreate = () => undefined;
});

const engine = {
  inspectContainer: async (id: string) => {
    const runs = running.get(id);
    if (runs === undefined) throw refused(404);
    return { name: `name of ${id}`, running: runs };
  },
  inspectImage: async () => ({ labels: {} }),
  listContainers: async () => made,
  createContainer: async (name: string, body: { Labels: Record<string, string> }) => {
    onCreate();
    if (refusal !== undefined) throw refused(refusal);
    if (made.some((one) => one.name === name)) throw refused(409);
    const one = { id: `m${made.length}`, name, labels: body.Labels };
    made.push(one);
    return { id: one.id, warnings: [] };
  },
  removeContainer: async (id: string) => {
    made = made.filter((one) => one.id !== id);
  },
} as unknown as Engine;

const take = (id: string) => takeRunLock({ engine, project, agent: { id, imageId: 'i' }, log: silentLog });
const put = (agent: string, run: string, name = 'x') => {
  const labels = { 'dev.lifeboat.run': run, 'dev.lifeboat.project': project, 'dev.lifeboat.agent': agent };
  made.push({ id: `${name} of ${agent}`, name, labels });
};

test('a run has a marker while it lasts, and leaves nothing behind', async () => {
  const lock = await take('a1');
  expect(made).toMatchObject([{ name: MARKER, labels: { 'dev.lifeboat.run': 'lock', 'dev.lifeboat.agent': 'a1' } }]);
  await lock.release();
  expect({ made, locked: await isLocked(project) }).toEqual({ made: [], locked: false });
});

test.each(['lock', '20261120T030000Z-4f1c9a'])(
  'the run waits for another running agent, found by its "%s", and names it',
  async (run) => {
    put('a2', run, MARKER);
    await expect(take('a1')).rejects.toMatchObject({ code: 'LOCKED', hint: expect.stringContaining('name of a2') });
    expect(made).toHaveLength(1);
    expect(await isLocked(project)).toBe(false);
  },
);

test.each([
  ['has ended', 'a2', () => running.set('a2', false)],
  ['is gone', 'a2', () => running.delete('a2')],
  ['was another process of this agent', 'a1', () => undefined],
])('the marker of an agent that %s does not block others', async (_what, agent, happen) => {
  put(agent, 'lock', MARKER);
  happen();
  const lock = await take('a1');
  expect(made).toMatchObject([{ labels: { 'dev.lifeboat.agent': 'a1' } }]);
  await lock.release();
});

test('helpers of `plan`, of other projects and of a crashed agent do not count as a run', async () => {
  put('a2', 'plan-20261120T030000Z-4f1c9a');
  put('a3', '20261120T030000Z-4f1c9a');
  put('a2', '20261120T030000Z-4f1c9a');
  made[2]!.labels['dev.lifeboat.project'] = `${project}-staging`;
  await (await take('a1')).release();
  expect(made).toHaveLength(3);
});

test('one of two agents that begin at the same time is refused', async () => {
  onCreate = () => {
    if (made.length === 0) put('a2', 'lock', MARKER);
  };
  await expect(take('a1')).rejects.toMatchObject({ code: 'LOCKED' });
});

test.each([403, 500])('a run continues without a marker if the engine refuses it with %i', async (status) => {
  refusal = status;
  const lock = await take('a1');
  await expect(take('a1')).rejects.toMatchObject({ code: 'LOCKED' });
  await lock.release();
});
