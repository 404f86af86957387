import { expect, test } from 'vitest';
import { awaitedContainers } from '../../src/plan/awaited.ts';
import type { ContainerFacts, ContainerLife } from '../../src/plan/model.ts';
import { parseSettings } from '../../src/plan/settings.ts';

const now = new Date('2026-11-20T03:00:00Z');
const ago = (seconds: number) => new Date(now.getTime() - seconds * 1000).toISOString();
const NEVER = '0001-01-01T00:00:00Z';
const long = 30 * 86_400;

function life(over: Partial<ContainerLife>): ContainerLife {
  const base = { state: 'exited', restartPolicy: 'unless-stopped', createdAt: ago(long), startedAt: ago(long) };
  return { ...base, finishedAt: NEVER, ...over };
}

function awaited(container: Partial<ContainerFacts>, agent: ContainerLife | undefined): string[] {
  const settings = parseSettings({}, () => '');
  const facts: ContainerFacts = {
    ...{ id: 'c1', name: 'shop-db-1', project: 'shop', service: 'db', imageId: 'i', running: false },
    ...{ labels: { 'lifeboat.postgres': 'true' }, imageLabels: {}, env: {}, mounts: [] },
    ...container,
  };
  return awaitedContainers({ containers: [facts], project: 'shop', settings, configFiles: false }, agent, now);
}

/** The host was down between 100 s and 20 s ago. */
const booted = life({ state: 'running', startedAt: ago(20), finishedAt: ago(100) });
const steady = life({ state: 'running', startedAt: ago(long), finishedAt: ago(long) });
const fresh = life({ state: 'running', startedAt: ago(10), createdAt: ago(12) });

test.each<[string, Partial<ContainerLife>, ContainerLife, boolean]>([
  ['ended with the host', { finishedAt: ago(103) }, booted, true],
  [
    'ended with the host, which is up for 4 minutes',
    { finishedAt: ago(350) },
    life({ startedAt: ago(240), finishedAt: ago(345) }),
    false,
  ],
  ['ended with the host, and has no restart policy', { finishedAt: ago(103), restartPolicy: 'no' }, booted, true],
  [
    'the same, a minute later',
    { finishedAt: ago(163), restartPolicy: 'no' },
    life({ startedAt: ago(80), finishedAt: ago(160) }),
    false,
  ],
  ['was stopped by a user an hour before the host went down', { finishedAt: ago(3700) }, booted, false],
  ['was stopped by a user, and nothing else happened', { finishedAt: ago(300) }, steady, false],
  ['is in the middle of a restart', { finishedAt: ago(4) }, steady, true],
  ['was just made by Compose', { state: 'created', createdAt: ago(5) }, steady, true],
  ['was made long ago and never started', { state: 'created', createdAt: ago(long) }, steady, false],
  ['was made with the agent', { state: 'created', createdAt: ago(12) }, fresh, true],
  ['was stopped before the agent was made', { finishedAt: ago(500) }, fresh, false],
  ['is dead', { state: 'dead', finishedAt: ago(103) }, booted, false],
])('a container that %s: is it waited for?', (_, container, agent, expected) => {
  expect(awaited({ life: life(container) }, agent)).toEqual(expected ? ['shop-db-1'] : []);
});

test('a run waits only for labelled containers in scope', () => {
  const gone = { life: life({ finishedAt: ago(103) }) };
  expect(awaited({ ...gone, labels: {} }, booted)).toEqual([]);
  expect(awaited({ ...gone, project: 'blog' }, booted)).toEqual([]);
  expect(
    awaited({ ...gone, labels: { 'lifeboat.postgres': 'true', 'com.docker.compose.oneoff': 'True' } }, booted),
  ).toEqual([]);
  expect(awaited({ ...gone, running: true }, booted)).toEqual([]);
  expect(awaited(gone, undefined)).toEqual([]);
});
