import { expect, it, test } from 'vitest';
import type { ErrorInfo } from '../../src/base/errors.ts';
import { warningsFor } from '../../src/restore/recorded-warnings.ts';
import { takeSafetySnapshot, takeSafetySnapshots } from '../../src/restore/safety.ts';

type Given = Parameters<typeof takeSafetySnapshot>[0];

/** A run of a backup that stored a snapshot with these databases, or none. */
function given(databases: object[] | undefined, error?: ErrorInfo): Given {
  const sources = { 'db.postgres': { status: 'partial', databases } };
  return {
    deps: {
      safetyBackup: async () => ({
        results: [{ name: 'db.postgres', ...(error ? { error } : {}) }],
        ...(databases ? { snapshot: 'S1' } : {}),
      }),
      now: () => new Date(0),
    },
    request: { say: () => undefined, signal: new AbortController().signal },
    context: {
      id: 'R1',
      repository: { snapshots: async () => ({ snapshots: [{ manifest: { id: 'S1', sources } }] }) },
    },
  } as unknown as Given;
}

const take = (state: Given) => takeSafetySnapshot(state, { target: 'db.postgres', databases: ['app'] });
const damaged: ErrorInfo = {
  code: 'PG_DUMP_FAILED',
  message: 'pg_dump failed',
  hint: 'Look at it.',
  cause: 'invalid page',
};

it.each<[string, Given, string, RegExp, RegExp]>([
  [
    'a database that cannot be dumped',
    given([{ name: 'app', status: 'failed', error: damaged }], { code: 'PG_STALLED', message: 'of another' }),
    ...(['PG_DUMP_FAILED', /does not hold app: pg_dump failed/, /^Look at it\. Nothing was changed\./] as const),
  ],
  [
    'a closed database',
    given([
      { name: 'app', status: 'closed', error: { code: 'PG_DATABASE_UNKNOWN', message: 'it allows no connections' } },
    ]),
    ...(['PG_DATABASE_UNKNOWN', /it allows no connections/, /^Nothing was changed\./] as const),
  ],
  [
    'a database that labels exclude',
    given([{ name: 'other', status: 'ok' }]),
    ...(['PG_DATABASE_UNKNOWN', /the labels leave app out/, /exclude-databases\. Nothing was changed\./] as const),
  ],
  [
    'a run that stored nothing',
    given(undefined, { code: 'SPOOL_FULL', message: 'the spool is full' }),
    ...(['SPOOL_FULL', /no safety snapshot could be taken: the spool is full/, /--no-safety/] as const),
  ],
])('a failed safety snapshot has the code of its cause: %s', async (_, state, code, message, hint) => {
  const error = await take(state).catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code, message: expect.stringMatching(message), hint: expect.stringMatching(hint) });
});

test('a volume that the run did not store is not protected, and the others are', async () => {
  const state = given([{ name: 'app', status: 'ok' }]);
  const signing = { sign: (_: string, record: object) => record };
  Object.assign(state.context.repository, { project: 'shop', destination: { put: async () => undefined }, signing });
  const targets = [
    { target: 'db.postgres', databases: ['app'] },
    { target: 'web.media', databases: [] },
  ];
  const { failed } = await takeSafetySnapshots(state, targets);
  expect([...failed.keys()]).toEqual(['web.media']);
  expect(failed.get('web.media')?.message).toMatch(/does not hold web\.media/);
});

test('a restore of one database shows the recorded warnings about the database and the server', () => {
  const warnings = [
    'database app: 1 table not counted',
    'database app: test: collation version 1 was recorded',
    'database blog is not backed up: it allows no connections',
    'database app__before_4f, which a restore keeps aside, is not backed up',
    'database blog is not in this backup, and was in the last good one',
    'the server has no archive',
  ];
  const databases = ['app', 'app: test', 'blog'].map((name) => ({ name, status: 'ok' as const }));
  const shown = (database?: string) =>
    warningsFor({ warnings, databases }, database).map((text) => warnings.indexOf(text));
  expect(shown('app')).toEqual([0, 5]);
  expect(shown('app: test')).toEqual([1, 5]);
  expect(shown('blog')).toEqual([2, 4, 5]);
  expect(shown('unknown')).toEqual([5]);
  expect(shown()).toEqual([0, 1, 2, 3, 4, 5]);
  // Snapshots of older agents do not list their databases.
  expect(warningsFor({ warnings }, 'blog')).toEqual([warnings[2], warnings[4], warnings[5]]);
});
