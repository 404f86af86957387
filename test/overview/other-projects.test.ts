import { afterEach, expect, test, vi } from 'vitest';
import { knownOtherProjects } from '../../src/overview/other-projects.ts';
import type { Repository } from '../../src/store/repository/repository.ts';

afterEach(() => void vi.restoreAllMocks());

test('the keys of a repository are listed once a day, not at each look', async () => {
  let lists = 0;
  const destination = {
    async *list() {
      lists += 1;
      yield { key: 'blog/snapshots/a.json' };
    },
  };
  const repository = { project: 'shop', destination } as unknown as Repository;
  const [owner, { signal }] = [{}, new AbortController()];
  const look = () => knownOtherProjects(owner, repository, signal);
  for (let i = 0; i < 20; i++) expect(await look()).toEqual(['blog']);
  expect(lists).toBe(1);
  const real = performance.now.bind(performance);
  vi.spyOn(performance, 'now').mockImplementation(() => real() + 25 * 3_600_000);
  await look();
  expect(lists).toBe(2);
});
