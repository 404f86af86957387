import { describe, expect, test } from 'vitest';
import type { Call } from '../../src/commands/call.ts';
import { restore } from '../../src/commands/restore.ts';
import { parsePointInTime } from '../../src/plan/values/point-in-time.ts';

/** Runs `restore latest …` with parsed options. The app throws if it is reached. */
function run(options: Record<string, unknown>, ...sources: string[]) {
  const settings = { unattendedRestore: true };
  const app = { settings, restore: () => Promise.reject(new Error('reached the app')) };
  const io = { stdin: {}, terminal: { write: () => true }, signal: new AbortController().signal, err: () => undefined };
  return restore({
    app,
    io,
    operands: ['latest', options.all === true ? [] : sources.length > 0 ? sources : ['db.postgres']],
    options,
    json: true,
  } as unknown as Call);
}

describe('restore --live', () => {
  test.each([
    ['--no-stop', { stop: false }],
    ['--to-database', { toDatabase: 'then' }],
    ['--to-directory', { toDirectory: '/restored' }],
    ['--table', { table: ['public.t'] }],
    ['--table', { table: ['public.t'], as: 't2' }],
    ['--as', { as: 't2' }],
    ['--no-stop', { stop: false, path: ['a'] }],
  ])('is refused with %s, before anything is read', async (option, options) => {
    const refused = run({ live: true, ...options });
    await expect(refused).rejects.toMatchObject({ code: 'USAGE', message: expect.stringContaining(`with ${option},`) });
  });

  test.each([
    [{}],
    [{ to: 'other.postgres' }],
    [{ database: 'shop', skipFailed: true, globals: true }],
    [{ path: ['uploads'], overwrite: true }],
    [{ safety: false, dryRun: true }],
  ])('goes with %j', async (options) => {
    await expect(run({ live: true, ...options })).rejects.toThrow('reached the app');
  });

  test('goes with --all, which refuses options for a single source', async () => {
    const all = (options: object) => run({ all: true, live: true, ...options });
    await expect(all({})).rejects.toThrow('reached the app');
    await expect(all({ stop: false })).rejects.toMatchObject({ code: 'USAGE' });
  });
});

test('a dry run of a recovery names the snapshot that it stored', async () => {
  let text = '';
  const result = { status: 'ok', restored: [], durationMs: 0, checks: [], warnings: [] };
  const app = {
    settings: { unattendedRestore: true },
    snapshotOfPoint: async () => '20261130T012000Z-cccccc',
    restore: async () => result,
  };
  const io = { stdin: {}, terminal: { write: () => true }, signal: new AbortController().signal };
  const out = (line: string) => {
    text += line;
  };
  const at = parsePointInTime('2026-11-30 01:17:00+00');
  const options = { at, database: 'shop', table: ['public.orders'], dryRun: true };
  const call = { app, io: { ...io, out, err: () => undefined }, operands: ['db.postgres', []], options, json: false };
  expect(await restore(call as unknown as Call)).toBe(0);
  expect(text).toContain('Snapshot 20261130T012000Z-cccccc with the recovered state stays for at least a day');
  expect(text).toContain('`lifeboat pin 20261130T012000Z-cccccc`');
  expect(text).not.toContain('Nothing was changed');
});

describe('a restore of several sources', () => {
  test.each([[['db.postgres', 'web.media']], [['web.*']]])('%j refuses options for a single source', async (names) => {
    await expect(run({}, ...names)).rejects.toThrow('reached the app');
    for (const option of [{ toDirectory: '/restored' }, { table: ['public.t'] }, { path: ['a'] }, { to: 'a.b' }]) {
      const refused = run(option, ...names);
      await expect(refused).rejects.toMatchObject({
        code: 'USAGE',
        message: expect.stringContaining('several sources'),
      });
    }
  });
});

describe('a recovery of a table to a point in time', () => {
  const asked: unknown[] = [];
  const recover = (names: readonly string[], options: object) => {
    const databases = names.map((name) => ({ name, status: 'ok' }));
    const manifest = { trigger: 'schedule', sources: { 'db.postgres': { databases } } };
    asked.length = 0;
    const app = {
      settings: { unattendedRestore: true },
      repository: async () => ({ snapshots: async () => ({ snapshots: [{ manifest }], damaged: [] }) }),
      snapshotOfPoint: async ({ database }: { database: string }) => {
        asked.push(database);
        return '20261120T030000Z-aaaaaa';
      },
      restore: async ({ database }: { database: string }) => {
        asked.push(database);
        throw new Error('reached the app');
      },
    };
    const io = {
      stdin: {},
      terminal: { write: () => true },
      signal: new AbortController().signal,
      err: () => undefined,
    };
    const call = { app, io, operands: ['db.postgres', []], options: { at: 'latest', ...options }, json: true };
    return restore(call as unknown as Call);
  };

  test('takes the only database of the server, and refuses to guess', async () => {
    const options = { table: ['public.orders'], as: 'orders_then' };
    await expect(recover(['postgres', 'shop'], options)).rejects.toThrow('reached the app');
    expect(asked).toEqual(['shop', 'shop']);
    await expect(recover(['shop'], { toDatabase: 'then' })).rejects.toThrow('reached the app');
    const several = recover(['blog', 'shop'], options);
    await expect(several).rejects.toMatchObject({ code: 'USAGE', hint: expect.stringContaining('blog, shop') });
    await expect(recover(['shop'], {})).rejects.toMatchObject({ code: 'USAGE' });
    expect(asked).toEqual([]);
  });
});
