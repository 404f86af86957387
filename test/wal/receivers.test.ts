import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import type { BaseSource, Plan } from '../../src/plan/model.ts';
import type { ReceiverDeps } from '../../src/wal/receiver-deps.ts';
import { Receivers } from '../../src/wal/receivers.ts';

const planOf = (...ids: string[]): Plan => ({
  project: 'shop',
  sources: ids.map((id) => ({ kind: 'base', server: 'db.postgres', containerId: id, user: 'x' }) as BaseSource),
  problems: [],
});

function makeReceivers() {
  const deps = {
    now: () => new Date(),
    log: silentLog,
    spool: '/dev/null/never',
    memory: { state: async () => undefined, saveState: async () => undefined },
    project: 'shop',
  } as unknown as ReceiverDeps;
  let begun = 0;
  const receivers = new Receivers(
    () => {
      begun++;
      return deps;
    },
    {
      log: silentLog,
      clear: async () => undefined,
      stopFeed: async () => undefined,
      left: { check: async () => undefined },
      waiting: { look: () => undefined, release: async () => undefined, stop: async () => undefined },
    },
  );
  return { receivers, begun: () => begun };
}

test('a plan without the label starts nothing', async () => {
  const { receivers, begun } = makeReceivers();
  await receivers.update(planOf());
  expect(begun()).toBe(0);
  await receivers.stop();
});

test('a replaced container gets a new receiver, an unchanged one keeps its own', async () => {
  const { receivers, begun } = makeReceivers();
  await receivers.update(planOf('one'));
  await receivers.update(planOf('one'));
  expect(begun()).toBe(1);
  await receivers.update(planOf('two'));
  expect(begun()).toBe(2);
  await receivers.stop();
});

test('a receiver whose label may only be hidden goes on', async () => {
  const { receivers, begun } = makeReceivers();
  await receivers.update(planOf('one'));
  await receivers.update({ ...planOf(), unreadLabels: true });
  await receivers.update(planOf('one'));
  expect(begun()).toBe(1);
  await receivers.stop();
});

test('no receiver begins once they are being stopped, not even for a change that was under way', async () => {
  const { receivers, begun } = makeReceivers();
  await receivers.update(planOf('one'));
  const changing = receivers.update(planOf('two'));
  // The change ends the first receiver by now.
  await setImmediate();
  const stopping = receivers.stop();
  const late = receivers.update(planOf('three'));
  await Promise.all([changing, stopping, late]);
  expect(begun()).toBe(1);
});
