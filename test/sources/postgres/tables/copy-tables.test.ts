import { expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { silentLog } from '../../../../src/base/log.ts';
import { copyTables } from '../../../../src/sources/postgres/tables/copy-tables.ts';
import type { LoadTablesOptions } from '../../../../src/sources/postgres/tables/load-options.ts';
import type { Shaped } from '../../../../src/sources/postgres/tables/table-shape.ts';

const stopped = new LifeboatError('INTERRUPTED', 'the run was asked to stop');
const orders = { schema: 'public', name: 'orders' };

/** `status`: of its transaction, once its session has ended; undefined: the session was gone before */
interface Server {
  status?: string | null;
  /** a table with this name is in the live database */
  isThere: boolean;
}

/** Copies a table, and is interrupted at the end. */
async function copyInterrupted({ status, isThere }: Server): Promise<unknown> {
  const stopping = new AbortController();
  let ended = false;
  const tools = {
    ...{ container: 'db', log: silentLog, connection: { application: 'lifeboat' }, activity: async () => '' },
    async run() {
      stopping.abort(stopped);
      throw new Error('the helper is gone');
    },
    control: async () => ({
      all: async () => (status === undefined ? [] : [{ xid: '740' }]),
      async one(sql: string) {
        // Before that, the statement may still take effect.
        if (sql.includes('txid_status')) return { status: ended ? status : 'in progress' };
        ended = true;
        return { left: '0' };
      },
    }),
    async session(_: string, signal: AbortSignal) {
      signal.throwIfAborted();
      expect(ended).toBe(true);
      return { all: async () => (isThere ? [orders] : []), close: async () => undefined };
    },
  };
  const options = {
    ...{ tools, target: 'app', scratch: '/s', signal: stopping.signal, stallTimeoutMs: 60_000, step: () => undefined },
    recorded: { encoding: 'UTF8', tables: [{ ...orders, rows: 3, exact: true }] },
    parts: { tables: [{ ...orders, root: 1, entry: { dumpId: 1 } }] },
  } as unknown as LoadTablesOptions;
  const shaped = { tables: [{ ...orders, chosen: orders }] } as unknown as Shaped;
  return copyTables(options, 'app__restoring', shaped, async () => expect.fail('the run is interrupted'));
}

test('a copy that is interrupted is done if its transaction was committed, and only then', async () => {
  expect(await copyInterrupted({ status: 'committed', isThere: true })).toEqual([]);
  // An application has created a table with this name.
  const lost = copyInterrupted({ status: 'aborted', isThere: true });
  await expect(lost).rejects.toThrow('the helper is gone');
  await expect(copyInterrupted({ isThere: false })).rejects.toThrow('the helper is gone');
  const hint = expect.stringMatching(/^public\.orders may be in the database by now/);
  for (const server of [{ isThere: true }, { status: null, isThere: true }])
    await expect(copyInterrupted(server)).rejects.toMatchObject({ hint });
});
