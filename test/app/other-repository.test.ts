import { expect, test } from 'vitest';
import { hintAtCopies, locationOf, projectIn } from '../../src/app/other-repository.ts';
import { LifeboatError } from '../../src/base/errors.ts';
import type { Destination } from '../../src/destinations/destination.ts';
import { parseSettings } from '../../src/plan/settings.ts';

const own = { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'secret' };
const settings = parseSettings(
  { LIFEBOAT_COPY: '/nas?keep=90d s3://acme/shop?region=eu-central-1&storage-class=STANDARD_IA' },
  () => '',
);
const s3 = 's3://acme/shop?region=eu-central-1&storage-class=STANDARD_IA';

test.each([
  ['1', '/nas'],
  ['2', s3],
  ['/nas/', '/nas'],
  ['s3://acme/shop', s3],
  ['s3://acme/shop?endpoint=https://elsewhere', 's3://acme/shop?endpoint=https://elsewhere'],
  ['/from', '/from'],
])('--from %s is %s', (from, location) => {
  expect(locationOf(from, settings)).toBe(location);
});

test('--from finds a copy that has the same bucket and prefix as the destination, by all its names', () => {
  const location = 's3://acme/shop?endpoint=https://s3.example.org&path-style=true';
  const both = parseSettings(
    { ...own, LIFEBOAT_DESTINATION: 's3://acme/shop?region=eu-central-1', LIFEBOAT_COPY: location },
    () => '',
  );
  const [copy] = both.copies;
  for (const name of ['1', 's3://acme/shop', copy?.name ?? '']) expect(locationOf(name, both)).toBe(location);
});

test.each([
  ['3', 'neither a copy nor a location', 'The copies are: 1 (/nas), 2 (s3://acme/shop).'],
  ['s3://other', 'neither a region nor an endpoint', 'region'],
  ['/from/../x', 'has .. as a part', 'absolute path'],
  ['s3://key:canary@other', 'has an @', 'AWS_ACCESS_KEY_ID'],
])('--from %s is refused', (from, message, hint) => {
  let error: unknown;
  try {
    locationOf(from, settings);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toMatchObject({ code: 'USAGE', message: expect.stringContaining(message) });
  expect((error as LifeboatError).hint).toContain(hint);
  expect((error as LifeboatError).message).not.toContain('canary');
});

test('hints about unreadable objects name the copies; other errors stay unchanged', () => {
  const lost = new LifeboatError('OBJECT_MISSING', 'gone', { hint: 'Run `lifeboat check`.' });
  expect(hintAtCopies(lost, settings)).toMatchObject({
    code: 'OBJECT_MISSING',
    hint: 'Run `lifeboat check`. A copy may have it: --from /nas or --from s3://acme/shop.',
  });
  expect(hintAtCopies(lost, { copies: [] })).toBe(lost);
  const busy = new LifeboatError('LOCKED', 'busy');
  expect(hintAtCopies(busy, settings)).toBe(busy);
});

test('the name of a copy with options, or of one on AWS, is quoted in a hint', () => {
  const lost = new LifeboatError('OBJECT_MISSING', 'lost');
  const copies = ['s3://acme/shop (AWS)', 's3://acme/shop?endpoint=https://x'].map((name) => ({
    name,
    location: name,
  }));
  expect(hintAtCopies(lost, { copies })).toMatchObject({
    hint: "A copy may have it: --from 's3://acme/shop (AWS)' or --from 's3://acme/shop?endpoint=https://x'.",
  });
});

test('the project to read is the named one, the own one, or the only one', async () => {
  const place = (...keys: string[]): Destination => ({
    ...({ name: '/from' } as Destination),
    async *list(prefix) {
      for (const key of keys) if (key.startsWith(prefix)) yield { key, size: 1 };
    },
  });
  const two = place('lifeboat.json', 'blog/snapshots/x/manifest.json', 'shop/snapshots/x/manifest.json');
  expect(await projectIn(two, undefined, 'shop')).toBe('shop');
  expect(await projectIn(two, 'blog', 'shop')).toBe('blog');
  expect(await projectIn(place('shop/snapshots/x/manifest.json'), undefined, '')).toBe('shop');
  await expect(projectIn(two, undefined, 'other')).rejects.toMatchObject({ code: 'USAGE' });
  await expect(projectIn(two, 'sho', 'shop')).rejects.toMatchObject({ code: 'SNAPSHOT_UNKNOWN' });
  await expect(projectIn(place('lifeboat.json'), undefined, '')).rejects.toMatchObject({ code: 'SNAPSHOT_UNKNOWN' });
});
