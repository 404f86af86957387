import { appendFile, mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import {
  type RunRestoreOptions,
  runRestore,
  TangledError,
} from '../../../../src/sources/postgres/archive/run-restore.ts';
import type { Tools } from '../../../../src/sources/postgres/server/tools.ts';

let scratch: string;
beforeEach(async () => {
  scratch = await mkdtemp(path.join(os.tmpdir(), 'run-restore-'));
});
afterEach(() => rm(scratch, { recursive: true, force: true }));

/** One call of pg_restore: its messages, and how it ends. */
interface Call {
  said: string;
  ends: string | undefined;
}

const connection = { host: '127.0.0.1', port: 5432, user: 'postgres', application: 'lifeboat' };

function optionsFor(calls: Call[], jobs: number): RunRestoreOptions {
  const tools = {
    ...{ connection, container: 'db' },
    activity: async () => '',
    run: async (command: string[]) => {
      const { said, ends } = calls.shift() as Call;
      await appendFile(command[3] as string, said);
      if (ends !== undefined) throw new LifeboatError('EXEC_FAILED', `pg_restore ${ends}`);
      return '';
    },
  } as unknown as Tools;
  return {
    ...{
      tools,
      about: 'app',
      database: 'working',
      directory: '/dump',
      lists: scratch,
      scratch,
      jobs,
      tablespaces: true,
    },
    ...{ stallTimeoutMs: 60_000, signal: new AbortController().signal, grows: async () => '' },
  };
}

const failed = (id: number, words: string) =>
  `pg_restore: from TOC entry ${id}; 2606 16441 FK CONSTRAINT child f${id} postgres\npg_restore: error: could not execute query: ERROR:  ${words}\n`;
const closing = (count: number) => `pg_restore: warning: errors ignored on restore: ${count}\n`;
const ONE = failed(7, 'no such thing');

describe('the end of pg_restore', () => {
  const run = (call: Call, jobs: number) => runRestore(optionsFor([call], jobs), {});

  it('is explained by failed entries if it completed', async () => {
    const whole = await run({ said: ONE + failed(8, 'b') + closing(2), ends: 'ended with status 1' }, 3);
    expect(whole.map(({ dumpId, words }) => [dumpId, words])).toEqual([
      [7, 'no such thing'],
      [8, 'b'],
    ]);
  });

  it('is explained if a worker counted an entry twice', async () => {
    const said = `${failed(8, 'before')}pg_restore: launching item 7 FK CONSTRAINT child f7\n${ONE}${closing(3)}`;
    expect(await run({ said, ends: 'ended with status 1' }, 3)).toHaveLength(2);
  });

  it('is a success with status 0, whatever a notice looks like', async () => {
    expect(await run({ said: ONE, ends: undefined }, 3)).toEqual([]);
  });

  it.each([
    ['killed', ONE, 'was killed'],
    ['killed with its last line written', ONE + closing(1), 'was killed'],
    ['ended before its last line', ONE, 'ended with status 1'],
    ['ended by a signal', ONE, 'ended with status 143'],
    ['another status', ONE + closing(1), 'ended with status 12'],
    ['a worker that died', `${ONE}pg_restore: error: a worker process died unexpectedly\n`, 'ended with status 1'],
  ])('is fatal, whatever failed before: %s', async (_, said, ends) => {
    const error = await run({ said, ends }, 3).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'PG_RESTORE_FAILED' });
    expect(error).not.toBeInstanceOf(TangledError);
  });

  it('names the worker that died', async () => {
    const said = `${ONE}pg_restore: error: worker process failed: exit code 9\n`;
    await expect(run({ said, ends: 'ended with status 1' }, 3)).rejects.toThrow(/worker process failed/);
  });

  const TANGLED: [string, string][] = [
    ['an error that was lost', ONE + closing(2)],
    ['more errors than were counted', ONE + failed(8, 'b') + closing(1)],
    ['lines in one another', `pg_restore: pg_restore: finished item 3\n${ONE}${closing(1)}`],
    ['an entry without its error', `pg_restore: from TOC entry 9; 0 0 INDEX i x\n${ONE}${closing(1)}`],
    ['an entry without its error at the end', `${ONE}pg_restore: from TOC entry 9; 0 0 INDEX i x\n${closing(1)}`],
  ];
  it.each(TANGLED)('is not trusted with several workers: %s', async (_, said) => {
    await expect(run({ said, ends: 'ended with status 1' }, 3)).rejects.toBeInstanceOf(TangledError);
  });

  it.each(TANGLED)('is fatal with one worker: %s', async (_, said) => {
    const error = await run({ said, ends: 'ended with status 1' }, 1).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'PG_RESTORE_FAILED' });
    expect(error).not.toBeInstanceOf(TangledError);
  });
});
