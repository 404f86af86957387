import { expect, test } from 'vitest';
import type { Destination } from '../../../src/destinations/destination.ts';
import { findOtherProjects, otherProjectsText } from '../../../src/store/repository/other-projects.ts';

const repositoryWith = (list: () => AsyncIterable<{ key: string; size: number }>) => ({
  destination: { name: '/backups', list } as unknown as Destination,
  project: 'shop2',
});

test('other projects in the same place are found, and a search never fails or reads everything', async () => {
  async function* few() {
    for (const key of [
      'lifeboat.json',
      'blog/snapshots/a/manifest.json',
      'shop/packs/x',
      'shop/snapshots/b/manifest.json',
    ])
      yield { key, size: 1 };
    yield { key: 'shop2/snapshots/c/manifest.json', size: 1 };
  }
  expect(await findOtherProjects(repositoryWith(few))).toEqual(['blog', 'shop']);
  let read = 0;
  async function* endless() {
    for (;;) yield { key: `shop/snapshots/${read++}/manifest.json`, size: 1 };
  }
  expect(await findOtherProjects(repositoryWith(endless))).toEqual(['shop']);
  expect(read).toBeLessThanOrEqual(10_000);
  async function* broken() {
    yield { key: 'shop/snapshots/b/manifest.json', size: 1 };
    throw new Error('gone');
  }
  expect(await findOtherProjects(repositoryWith(broken))).toEqual(['shop']);
});

test('the text names the option that reads them', () => {
  expect(otherProjectsText('/backups', [])).toBeUndefined();
  expect(otherProjectsText('/backups', ['shop'])).toBe(
    '/backups also holds project shop. If this project was renamed, add --from /backups --project shop',
  );
  expect(otherProjectsText('/my backups', ['shop'])).toContain("--from '/my backups' --project shop");
  expect(otherProjectsText('s3://b/p', ['a', 'b'])).toContain(
    'projects a, b. If this project was renamed, add --from ADDRESS',
  );
});
