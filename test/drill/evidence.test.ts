import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { createLocalDestination } from '../../src/destinations/local.ts';
import { isKnown, putDrill, readDrills } from '../../src/drill/evidence.ts';
import { readEvidence, storeEvidence } from '../../src/drill/seen-evidence.ts';
import type { DrillReport } from '../../src/report/drill-report.ts';
import { Signing } from '../../src/store/repository/signing.ts';
import { type Fault, faulty } from '../run/copy-bench.ts';
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
  start: `2026-11-${String(day).padStart(2, '0')}T06:00:00.000Z`,
  end: `2026-11-${String(day).padStart(2, '0')}T06:01:00.000Z`,
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
    expect(problems).toMatchObject([
      { id: report(2).id, error: { code: 'SIGNATURE_WRONG' } },
      { id: report(3).id, error: { code: 'CHAIN_BROKEN' } },
    ]);
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
    const { drills, problems, unsigned } = await readDrills(place());
    expect(drills.map(({ report: { id } }) => id)).toEqual([1, 2, 3].map((day) => report(day).id));
    expect(drills.map(({ signature }) => signature)).toEqual(['unsigned', 'signed', 'signed']);
    // A drill on a laptop without the key is no trouble of this host.
    expect(problems).toEqual([]);
    expect(unsigned).toMatchObject([{ id: report(4).id, error: { code: 'SIGNATURE_MISSING' } }]);
    expect(unsigned[0]?.error.hint).not.toContain('--unsigned');
  });

  test('without a signature does not count if no signed document names it', async () => {
    for (const day of [2, 3]) await putDrill(place(), report(day));
    // Like the first evidence, from before there was a key.
    await putDrill({ ...place([]), project: 'forged' }, { ...report(1), project: 'shop' });
    writeFileSync(fileOf(1), readFileSync(fileOf(1).replace('/shop/', '/forged/')));
    const { drills, unsigned } = await readDrills(place());
    expect(drills.map(({ report: { id } }) => id)).toEqual([2, 3].map((day) => report(day).id));
    expect(unsigned).toMatchObject([{ id: report(1).id }]);
  });

  test('cannot be hidden behind documents without a signature', async () => {
    await three();
    for (let day = 4; day <= 28; day++) await putDrill(place([]), report(day));
    const { earlier, stored } = await putDrill(place(), report(30));
    expect(earlier.at(-1)?.id).toBe(report(3).id);
    expect(stored.sequence).toBe(4);
  });

  test('has the time of its id', async () => {
    await putDrill(place([]), { ...report(1), start: '2026-11-09T06:00:00.000Z' });
    expect((await readDrills(place([]))).problems).toMatchObject([{ error: { code: 'OBJECT_DAMAGED' } }]);
  });

  test('of many drills is read in part to find the newest', async () => {
    for (let day = 1; day <= 28; day++) await putDrill(place(), report(day));
    expect((await readDrills(place(), { newest: 2 })).drills.map(({ sequence }) => sequence)).toEqual([27, 28]);
    expect((await readDrills(place())).problems).toEqual([]);
  });

  test('of which a part is read has no break at its beginning, also if a clock was wrong', async () => {
    for (const day of [1, 2, 28, 3, 4, 5, 6]) await putDrill(place(), report(day));
    for (const newest of [1, 2, 3, 4, 5]) expect((await readDrills(place(), { newest })).problems).toEqual([]);
    rmSync(fileOf(5));
    expect((await readDrills(place(), { newest: 4 })).problems).toMatchObject([{ id: report(6).id }]);
  });

  test('that is not JSON, or not evidence, is a problem and hides no other', async () => {
    await three(place([]));
    writeFileSync(fileOf(4), '{"id":');
    writeFileSync(fileOf(5), JSON.stringify({ id: report(5).id, project: 'shop', results: 'none' }));
    const { drills, problems } = await readDrills(place([]));
    expect(drills).toHaveLength(3);
    expect(problems.map(({ error }) => error.code)).toEqual(['OBJECT_DAMAGED', 'OBJECT_DAMAGED']);
    rmSync(fileOf(2));
    const codes = (await readDrills(place([]))).problems.map(({ error }) => error.code);
    expect(codes).toEqual(['OBJECT_DAMAGED', 'OBJECT_DAMAGED', 'CHAIN_BROKEN']);
  });

  test('that cannot be read is a problem, unless nothing can be read', async () => {
    await three();
    let isAway = false;
    const of = place();
    const fault: Fault = (call, key) => {
      if ((isAway && call === 'list') || (call === 'get' && key.includes(report(2).id)))
        throw new LifeboatError('DEST_UNREACHABLE', 'permission denied');
    };
    const faulted = { ...of, destination: faulty(of.destination, () => fault) };
    const { drills, problems } = await readDrills(faulted);
    expect(drills.map((one) => one.report.id)).toEqual([report(1).id, report(3).id]);
    expect(problems[0]).toMatchObject({ id: report(2).id, error: { code: 'DEST_UNREACHABLE' } });
    expect((await putDrill(faulted, report(4))).stored.sequence).toBe(4);
    isAway = true;
    await expect(readDrills(faulted)).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
  });

  test('that took the place of another shows it, unless it was stored elsewhere or at the same time', async () => {
    await three();
    const [third, other] = [
      readFileSync(fileOf(3)),
      { ...place(), destination: { ...place().destination, name: 'b' } },
    ];
    const again = async (day: number, at = place()) => {
      rmSync(fileOf(3));
      await putDrill(at, report(day));
      writeFileSync(fileOf(3), third);
      const { problems } = await readDrills(place());
      rmSync(fileOf(day));
      return problems;
    };
    expect(await again(4)).toMatchObject([{ id: report(4).id, error: { code: 'CHAIN_BROKEN' } }]);
    expect(await again(5, other)).toEqual([]);
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

describe('the end of the evidence', () => {
  const memory = () => ({ directory: join(root, 'state'), log: silentLog });
  const known = (secrets?: string[]) => ({ ...place(secrets), info: { id: 'one' } as never });

  test.each([[[3]], [[2, 3]], [[1, 2, 3]]])('is missed if it was removed: %s', async (removed) => {
    for (const day of [1, 2, 3]) await storeEvidence(memory(), known(), report(day));
    expect((await readEvidence(memory(), known())).problems).toEqual([]);
    for (const day of removed) rmSync(fileOf(day));
    const { problems } = await readEvidence(memory(), known());
    expect(problems).toMatchObject([{ id: report(3).id, error: { code: 'CHAIN_BROKEN' } }]);
    // Later evidence shows it to everybody.
    await storeEvidence(memory(), known(), report(4));
    const { problems: shown, drills } = await readDrills(place());
    expect(shown).toMatchObject([{ id: report(4).id, error: { code: 'CHAIN_BROKEN' } }]);
    expect(drills.at(-1)?.sequence).toBe(4);
  });

  test('is seen where others have stored it, and only if it is signed', async () => {
    await three();
    await readEvidence(memory(), known());
    rmSync(fileOf(3));
    expect((await readEvidence(memory(), known(), { newest: 1 })).problems).toMatchObject([{ id: report(3).id }]);
    await putDrill(place([]), report(9));
    expect((await readEvidence(memory(), known())).problems).toMatchObject([{ id: report(3).id }]);
  });

  test('of another place is another one', async () => {
    await three();
    await readEvidence(memory(), known());
    const copy = { ...known(), destination: { ...known().destination, name: '/copy' } };
    rmSync(fileOf(3));
    expect((await readEvidence(memory(), copy)).problems).toEqual([]);
  });
});
