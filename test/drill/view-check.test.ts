import { expect, test } from 'vitest';
import { viewCheck } from '../../src/drill/checks/view-check.ts';
import type { ArchiveEntry } from '../../src/sources/postgres/archive/archive.ts';
import { unreachableViews } from '../../src/sources/postgres/load/fill-database.ts';
import type { Session } from '../../src/sources/postgres/server/session.ts';

const EMPTY = { name: 'public."Far"', plain: 'public.Far', foreign: false };
const session = (...views: object[]) => ({ all: async () => views }) as unknown as Session;
const view: ArchiveEntry = {
  ...{ dumpId: 7, kind: 'MATERIALIZED VIEW DATA', section: 'post-data', schema: 'public', tag: 'Far' },
  ...{ definition: '', dependencies: [], file: '' },
};

test.each([
  ['could not establish connection', 'skipped'],
  ['could not connect to server "far"', 'skipped'],
  ["Couldn't resolve host name", 'skipped'],
  ['failed to connect to MySQL: unknown host', 'skipped'],
  ['division by zero', 'failed'],
])('a view that is empty because of "%s" is %s, although it reads no foreign table', async (words, result) => {
  const unreachable = unreachableViews([view], [{ dumpId: 7, words }]);
  expect(await viewCheck(session(EMPTY), 'app', { unfilledViews: 0 }, unreachable)).toMatchObject({ result });
});

test('another empty view beside it fails', async () => {
  const views = session(EMPTY, { name: 'public.near', plain: 'public.near', foreign: false });
  expect(await viewCheck(views, 'app', { unfilledViews: 0 }, ['public.Far'])).toMatchObject({ result: 'failed' });
  expect(await viewCheck(views, 'app', { unfilledViews: 1 }, ['public.Far'])).toMatchObject({ result: 'skipped' });
});
