import { expect, test } from 'vitest';
import { objectsOfSource } from '../../../src/store/repository/source-objects.ts';

test('the objects of a source exclude those of sources whose names begin with its name', () => {
  const run = '20261120T030000Z-4f1c9a';
  const own = [
    'shop/packs/web.media/ab/abc.zip.zst',
    `shop/snapshots/${run}/web.media.facts.json.zst`,
    `shop/snapshots/${run}/web.media.index.ndjson.zst.age`,
    `shop/snapshots/${run}/web.media.index.ndjson`,
  ];
  const others = [
    // With LIFEBOAT_SCOPE: the Postgres of service `media` in project `web`.
    'shop/packs/web.media.postgres/ab/abc.zip.zst',
    `shop/snapshots/${run}/web.media.postgres.facts.json.zst`,
    `shop/snapshots/${run}/web.media.postgres.index.ndjson.zst`,
    `shop/snapshots/${run}/web.media.index.ndjson.copy`,
    `shop/snapshots/${run}/manifest.json`,
    'shop/snapshots/20261119T030000Z-aa01be/web.media.index.ndjson.zst',
    `app/snapshots/${run}/web.media.index.ndjson.zst`,
  ];
  expect(objectsOfSource([...others, ...own], { project: 'shop', run, source: 'web.media' })).toEqual(own);
});
