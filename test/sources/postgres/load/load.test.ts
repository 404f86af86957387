import { describe, expect, it } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { silentLog } from '../../../../src/base/log.ts';
import type { BuiltDatabase, LoadOptions } from '../../../../src/sources/postgres/load/build-database.ts';
import { buildDatabases, swapDatabases } from '../../../../src/sources/postgres/load/load.ts';
import type { PlannedLoad } from '../../../../src/sources/postgres/load/load-plan.ts';

const loads = ['a', 'b', 'c'].map((target): PlannedLoad => ({ database: target, target, state: 'absent' }));

/** The databases that the journal records as failed. */
let noted: string[];

/** A server that cannot be reached for one database, or has no such database in the snapshot. */
function options(control: (target: string) => Promise<never>, signal = new AbortController().signal): LoadOptions {
  noted = [];
  const recordFailed = (target: string) => void noted.push(target);
  const databases = loads.map(({ database }) => ({ name: database }));
  return {
    tools: { control, log: silentLog },
    facts: { databases },
    id: '4f1c9a',
    recordFailed,
    signal,
  } as unknown as LoadOptions;
}

describe('databases of a restore', () => {
  it('are restored one by one, whether the others fail or not', async () => {
    const asked: string[] = [];
    const failing = async (target: string) => {
      asked.push(target);
      throw new LifeboatError('PG_RESTORE_FAILED', `not ${target}`);
    };
    const { failed, built } = await buildDatabases(options(failing), loads);
    expect(asked).toEqual(['a', 'b', 'c']);
    expect(built).toEqual([]);
    expect(noted).toEqual(['a', 'b', 'c']);
    expect(failed.map(({ target, error }) => [target, (error as Error).message])).toEqual([
      ...[
        ['a', 'not a'],
        ['b', 'not b'],
        ['c', 'not c'],
      ],
    ]);
  });

  it('all fail if the server is gone or the restore is interrupted', async () => {
    const asked: string[] = [];
    const gone = async (target: string) => {
      asked.push(target);
      throw new LifeboatError('PG_UNREACHABLE', 'gone');
    };
    expect((await buildDatabases(options(gone), loads)).failed).toHaveLength(3);
    expect(asked).toEqual(['a']);
    for (const code of ['PG_STALLED', 'PG_NO_SPACE'] as const) {
      const tried: string[] = [];
      const ending = async (target: string) => {
        tried.push(target);
        throw new LifeboatError(code, 'nothing more');
      };
      expect((await buildDatabases(options(ending), loads)).failed).toHaveLength(3);
      expect(tried).toEqual(['a']);
    }
    const stopping = new AbortController();
    const stopped = async () => {
      stopping.abort(new LifeboatError('INTERRUPTED', 'stop'));
      throw new Error('cut');
    };
    const { failed } = await buildDatabases(options(stopped, stopping.signal), loads);
    expect(failed.map(({ error }) => (error as LifeboatError).code)).toEqual(Array(3).fill('INTERRUPTED'));
  });

  it('are not swapped after an interrupt, although they are built', async () => {
    const asked: string[] = [];
    const control = async (target: string) => {
      asked.push(target);
      throw new Error('asked');
    };
    const built = loads as BuiltDatabase[];
    const interrupted = AbortSignal.abort(new LifeboatError('INTERRUPTED', 'stop'));
    const withWarnings = built.map((one) => ({ ...one, warnings: [] }));
    const { databases, failed } = await swapDatabases(options(control, interrupted), withWarnings);
    expect(asked).toEqual([]);
    expect(databases).toEqual([]);
    expect(failed.map(({ error }) => (error as LifeboatError).code)).toEqual(Array(3).fill('INTERRUPTED'));
  });

  it.each([true, false])(
    'keep what depends on their names open for recovery only after an interrupt: %j',
    async (cut) => {
      const stopping = new AbortController();
      const entries: string[] = [];
      const control = {
        run: async () => undefined,
        all: async (sql: string) => (sql.includes('pg_database_size') ? [{ name: 'w', oid: '7', bytes: '1' }] : []),
        one: async () => ({}),
      };
      const session = async () => ({
        async run(sql: string) {
          if (cut && sql.startsWith('REFRESH')) stopping.abort(new LifeboatError('INTERRUPTED', 'stop'));
          stopping.signal.throwIfAborted();
        },
        all: async () => [],
        close: async () => undefined,
      });
      const refresh = {
        kind: 'materialized view',
        object: 'm',
        relation: null,
        statement: 'REFRESH MATERIALIZED VIEW m',
      };
      const recorded = { name: 'a', settings: [], grants: null, tables: [] };
      const built = {
        ...{ target: 'a', working: 'w', before: 'b', state: 'absent', recorded, compared: { missing: [] } },
        ...{ dependents: [refresh], warnings: [], skipped: [], lost: [], unreachable: [] },
      } as unknown as BuiltDatabase;
      const note = (what: string) => () => void entries.push(what);
      const own = {
        ...options(async () => control as never, stopping.signal),
        tools: { control: async () => control, session, log: silentLog, container: 'db' },
        ...{ recordDependents: note('dependents'), recordSwapped: note('swapped'), forgetWorking: note('done') },
        ...{ forgetDependents: note('computed'), step: () => undefined },
      } as unknown as LoadOptions;
      const { databases, failed } = await swapDatabases(own, [built]);
      expect({ done: databases.map(({ target }) => target), failed }).toEqual({ done: ['a'], failed: [] });
      expect(entries).toEqual(['dependents', 'swapped', 'done', ...(cut ? [] : ['computed'])]);
    },
  );
});
