import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createLocalDestination } from '../../src/destinations/local.ts';
import { isKnown, putDrill, readDrills } from '../../src/drill/evidence.ts';
import type { DrillReport } from '../../src/report/drill-report.ts';
import { Signing } from '../../src/store/repository/signing.ts';
import { scratchBase } from '../store/helpers.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-drills-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const place = (secrets: string[] = ['a secret of drills'], repository = 'one') => ({
  destination: createLocalDestination({ root }),
  project: 'shop',
  signing: new Signing(repository, secrets),
});

const report = (day: number, fields: Partial<DrillReport> = {}): DrillReport => ({
  id: `202611${String(day).padStart(2, '0')}T060000Z-4f1c9a`,
  ...{ project: 'shop', trigger: 'schedule', status: 'ok', agentVersion: '1.2.3', unproven: [] },
  ...{ start: '2026-11-20T06:00:00.000Z', end: '2026-11-20T06:01:00.000Z' },
  results: [
    {
      ...{ source: 'db.postgres', kind: 'postgres', status: 'ok', place: '/backups', steps: [], notes: [] },
      checks: [{ name: 'rows', of: 'app', result: 'ok', expected: 3, found: 3 }],
    },
  ],
  ...fields,
});

const fileOf = (day: number) => join(root, 'shop', 'drills', `${report(day).id}.json`);

/** Stores the evidence of three drills. */
async function three(at = place()): Promise<void> {
  for (const day of [1, 2, 3]) await putDrill(at, report(day));
}

describe('the evidence of drills', () => {
  test('is read back as it was stored, in order', async () => {
    await three();
    const { drills, problems } = await readDrills(place());
    expect(problems).toEqual([]);
    expect(drills.map((one) => one.report)).toEqual([1, 2, 3].map((day) => report(day)));
    expect(drills.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
    expect(drills.map(({ signature }) => signature)).toEqual(['signed', 'signed', 'signed']);
    expect(drills.map(({ previous }) => previous)).toEqual([null, drills[0]?.hash, drills[1]?.hash]);
  });

  test.each([1, 2])('that was removed is missed: the %s. of three', async (day) => {
    await three();
    rmSync(fileOf(day));
    const { problems } = await readDrills(place());
    expect(problems).toMatchObject([{ id: report(day + 1).id, error: { code: 'CHAIN_BROKEN' } }]);
  });

  test('that was changed has a wrong signature', async () => {
    await three();
    writeFileSync(fileOf(2), readFileSync(fileOf(2), 'utf8').replace('"found":3', '"found":4'));
    const { drills, problems } = await readDrills(place());
    expect(problems).toMatchObject([{ id: report(2).id, error: { code: 'SIGNATURE_WRONG' } }]);
    expect(drills.map((one) => one.report.id)).toEqual([report(1).id, report(3).id]);
  });

  test('of another repository, or under another id, has a wrong signature', async () => {
    await three();
    writeFileSync(fileOf(4), readFileSync(fileOf(3)));
    expect((await readDrills(place())).problems).toMatchObject([{ error: { code: 'SIGNATURE_WRONG' } }]);
    const moved = await readDrills(place(undefined, 'two'));
    expect(moved.problems.map(({ error }) => error.code)).toEqual(Array(4).fill('SIGNATURE_WRONG'));
  });

  test('without a signature counts only from before the first signed one', async () => {
    await putDrill(place([]), report(1));
    for (const day of [2, 3]) await putDrill(place(), report(day));
    await putDrill(place([]), report(4));
    const { drills, problems } = await readDrills(place());
    expect(drills.map(({ report: { id } }) => id)).toEqual([1, 2, 3].map((day) => report(day).id));
    expect(problems).toMatchObject([{ id: report(4).id, error: { code: 'SIGNATURE_MISSING' } }]);
  });

  test('of many drills is read in part to find the newest', async () => {
    for (let day = 1; day <= 28; day++) await putDrill(place(), report(day));
    expect((await readDrills(place(), { newest: 2 })).drills.map(({ sequence }) => sequence)).toEqual([27, 28]);
    expect((await readDrills(place())).problems).toEqual([]);
  });

  test('that is not JSON, or not evidence, is a problem and hides no other', async () => {
    await three(place([]));
    writeFileSync(fileOf(4), '{"id":');
    writeFileSync(fileOf(5), JSON.stringify({ id: report(5).id, project: 'shop', results: 'none' }));
    const { drills, problems } = await readDrills(place([]));
    expect(drills).toHaveLength(3);
    expect(problems.map(({ error }) => error.code)).toEqual(['OBJECT_DAMAGED', 'OBJECT_DAMAGED']);
  });

  test('follows the newest that can be read', async () => {
    await three();
    writeFileSync(fileOf(3), 'damaged');
    await putDrill(place(), report(6));
    const { drills } = await readDrills(place());
    expect(drills.at(-1)).toMatchObject({ sequence: 3, previous: drills[1]?.hash });
    expect(readdirSync(join(root, 'shop', 'drills'))).toHaveLength(4);
  });

  test('shows whether the last drill of the same sources left the same unproven', () => {
    const unproven = (day: number, ...what: string[]) => report(day, { status: 'unproven', unproven: what });
    const other = { ...report(4), results: report(4).results.map((one) => ({ ...one, source: 'web.media' })) };
    expect(isKnown(unproven(5, 'a'), [])).toBe(false);
    expect(isKnown(unproven(5, 'a'), [report(3), unproven(4, 'a')])).toBe(true);
    expect(isKnown(unproven(5, 'a'), [unproven(3, 'a'), other])).toBe(true);
    expect(isKnown(unproven(5, 'a'), [unproven(3, 'a'), report(4)])).toBe(false);
    expect(isKnown(unproven(5, 'a', 'b'), [unproven(4, 'a')])).toBe(false);
    expect(isKnown(report(5), [unproven(4)])).toBe(false);
  });
});
