import { expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { silentLog } from '../../../../src/base/log.ts';
import { copyTables } from '../../../../src/sources/postgres/tables/copy-tables.ts';
import type { LoadTablesOptions } from '../../../../src/sources/postgres/tables/load-options.ts';
import type { Shaped } from '../../../../src/sources/postgres/tables/table-shape.ts';

const stopped = new LifeboatError('INTERRUPTED', 'the run was asked to stop');
const orders = { schema: 'public', name: 'orders' };

/** Copies a table of three rows, and is interrupted at the end. `live`: its rows afterwards; undefined: no table. */
async function copyInterrupted(live: number | undefined): Promise<unknown> {
  const stopping = new AbortController();
  let ended = false;
  const tools = {
    ...{ container: 'db', log: silentLog, connection: { application: 'lifeboat' }, activity: async () => '' },
    async run() {
      stopping.abort(stopped);
      throw new Error('the helper is gone');
    },
    control: async () => ({
      async one() {
        ended = true;
        return { left: '0' };
      },
    }),
    async session(_: string, signal: AbortSignal) {
      signal.throwIfAborted();
      // Before that, the statement may still take effect.
      expect(ended).toBe(true);
      return {
        all: async () => (live === undefined ? [] : [orders]),
        one: async () => ({ rows: String(live) }),
        close: async () => undefined,
      };
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

test('a copy that is interrupted is done if it was committed, and only then', async () => {
  expect(await copyInterrupted(3)).toEqual([]);
  expect(await copyInterrupted(4)).toEqual([]);
  await expect(copyInterrupted(undefined)).rejects.toThrow();
  // An application has made it.
  await expect(copyInterrupted(0)).rejects.toThrow();
});
