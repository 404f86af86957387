import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import type { Destination } from '../../../src/destinations/destination.ts';
import { FORMAT, type RepositoryInfo } from '../../../src/store/objects/manifest.ts';
import { expectInfo, readOrCreateInfo } from '../../../src/store/repository/repository-info.ts';

/** A destination of this name with these objects. */
function destination(name: string, objects: Record<string, string>): Destination {
  return {
    name,
    async get(key: string) {
      const content = objects[key];
      if (content === undefined) throw new LifeboatError('OBJECT_MISSING', `${key} is not in the repository`);
      return Readable.from([Buffer.from(content)]);
    },
    async *list() {
      yield* Object.keys(objects).map((key) => ({ key, size: 1 }));
    },
  } as unknown as Destination;
}

const info = (id: string): RepositoryInfo => ({ format: FORMAT, id, created: '2026-11-28T00:00:00.000Z' });
const OWN = info('11111111-1111-4111-8111-111111111111');
const OTHER = JSON.stringify(info('22222222-2222-4222-8222-222222222222'));
const known = { info: OWN };

const CASES: [string, Record<string, string>, (at: Destination) => Promise<unknown>][] = [
  ['is empty', {}, (at) => readOrCreateInfo(at, { create: true, known })],
  ['was never filled', {}, (at) => readOrCreateInfo(at, { create: false })],
  ['holds no copy', {}, (at) => readOrCreateInfo(at, { create: false, copyOf: OWN })],
  ['holds other things', { x: '' }, (at) => readOrCreateInfo(at, { create: true, known })],
  ['holds another repository', { 'lifeboat.json': OTHER }, (at) => readOrCreateInfo(at, { create: true, known })],
  ['holds a damaged lifeboat.json', { 'lifeboat.json': 'x' }, (at) => readOrCreateInfo(at, { create: true, known })],
  ['was emptied during the run', {}, (at) => expectInfo(at, OWN)],
];

test.each(CASES)('a bucket that %s has neither a disk nor a mount', async (what, objects, open) => {
  const hintOf = (name: string) =>
    open(destination(name, objects)).then(
      () => '',
      (error: LifeboatError) => error.hint ?? '',
    );
  expect(await hintOf('/backups')).toMatch(/disk|mount/i);
  const hint = await hintOf('s3://bucket/shop');
  expect(hint).not.toMatch(/disk|mount|restart/i);
  expect(hint).toMatch(/empt|copy|damaged/.test(what) ? /bucket undelete --before/ : /LIFEBOAT_DESTINATION|endpoint/);
});
