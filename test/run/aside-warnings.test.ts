import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { asideWarnings, seenStrays } from '../../src/run/aside-warnings.ts';
import { openState, type Rollback } from '../../src/run/state.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-aside-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const id = (n: number) => `20261120T030000Z-00000${n}`;
const record = (area: string, more: Partial<Rollback> = {}): Rollback => ({
  ...{ id: area, at: '2026-11-20T03:00:00Z', source: 'web.media', snapshot: 's', inUse: 'restored' },
  ...{ volume: { area } },
  ...more,
});

test('a backup warns of old data in a volume that no snapshot has, and of data without a record', async () => {
  const state = openState(directory);
  const journals = path.join(directory, 'runs');
  const names = [1, 2, 3, 4, 5].map((n) => `.lifeboat-before-${id(n)}`).concat(`.lifeboat-restoring-${id(6)}`);
  await state.saveRollbacks([
    record(id(1)),
    record(id(2), { safety: 'snapshot' }),
    // Rolled back: what was written since the restore is put aside, and the safety snapshot does not have it.
    record(id(3), { safety: 'snapshot', inUse: 'before' }),
    record(id(4), { source: 'app.other' }),
  ]);
  expect(
    await asideWarnings(state, { source: 'web.media', isDataDirectory: false }, names.slice(0, 2), journals),
  ).toEqual([expect.stringMatching(/put aside \(20261120T030000Z-000001\) is not backed up, and no snapshot has it/)]);
  expect(await seenStrays(state)).toEqual({ 'web.media': [] });
  // The restore that builds an area has not ended.
  writeFileSync(path.join(journals, `${id(6)}.ndjson`), '');
  const strays = [`.lifeboat-before-${id(4)}`, `.lifeboat-before-${id(5)}`];
  expect(await asideWarnings(state, { source: 'web.media', isDataDirectory: false }, names, journals)).toEqual([
    expect.stringContaining(`(${id(1)}, ${id(3)})`),
    expect.stringContaining(`${strays.join(', ')}. The spool has no record of it; \`lifeboat status\``),
  ]);
  expect(await seenStrays(state)).toEqual({ 'web.media': strays });
  expect(await asideWarnings(state, { source: 'web.empty', isDataDirectory: false }, [], journals)).toEqual([]);
  const server = { source: 'web.media', isDataDirectory: true };
  // The WAL of a server is stored on both sides of a recovery in place.
  expect(await asideWarnings(state, server, [`pgsql_tmp.lifeboat-before-${id(1)}`], journals)).toEqual([]);
  expect(await asideWarnings(state, server, [`pgsql_tmp.lifeboat-before-${id(7)}`], journals)).toEqual([
    expect.stringContaining(`: pgsql_tmp.lifeboat-before-${id(7)}. The spool has no record`),
  ]);
  rmSync(path.join(directory, 'rollbacks.json'));
  expect(await seenStrays(state)).toEqual({});
  await asideWarnings(state, { source: 'web.empty', isDataDirectory: false }, [], journals);
  expect(await state.hasRollbacks()).toBe(true);
});
