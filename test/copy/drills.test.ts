import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { putDrill, readDrills } from '../../src/drill/evidence.ts';
import type { DrillReport } from '../../src/report/drill-report.ts';
import { CopyBench } from '../run/copy-bench.ts';

let bench: CopyBench;
beforeEach(() => {
  bench = new CopyBench();
});
afterEach(() => bench.remove());

const report = (day: number): DrillReport => ({
  id: `202611${String(day).padStart(2, '0')}T060000Z-4f1c9a`,
  ...{ project: 'shop', trigger: 'schedule', status: 'ok', agentVersion: '1.2.3', unproven: [], results: [] },
  start: `2026-11-${String(day).padStart(2, '0')}T06:00:00.000Z`,
  end: `2026-11-${String(day).padStart(2, '0')}T06:01:00.000Z`,
});

const drillsAt = async (at: 'main' | 'copy') => {
  const { drills, problems } = await readDrills(await bench.copy(at));
  expect(problems).toEqual([]);
  return drills.map((one) => one.report.id);
};
const ids = (...days: number[]) => days.map((day) => report(day).id);

describe('the evidence of drills in a copy', () => {
  test('arrives with the snapshots, signed and chained, and is not sent again', async () => {
    await bench.nights(1);
    for (const day of [1, 2]) await putDrill(await bench.main(), report(day));
    expect(await bench.run()).toMatchObject([{ status: 'ok' }]);
    expect(await drillsAt('copy')).toEqual(ids(1, 2));
    const puts: string[] = [];
    bench.fault = (call, key) => void (call === 'put' && key.includes('/drills/') && puts.push(key));
    await putDrill(await bench.main(), report(3));
    expect(await bench.run()).toMatchObject([{ status: 'ok' }]);
    expect(puts).toEqual([`shop/drills/${report(3).id}.json`]);
    expect(await drillsAt('copy')).toEqual(ids(1, 2, 3));
  });

  test('comes back to the repository if a drill stored it in the copy', async () => {
    await bench.nights(1);
    await putDrill(await bench.main(), report(1));
    await bench.run();
    await putDrill(await bench.copy(), report(2));
    bench.mainFault = (call, key) => {
      if (call === 'put' && key.includes('/drills/')) throw new LifeboatError('DEST_UNWRITABLE', 'it is full');
    };
    expect(await bench.run()).toMatchObject([{ status: 'ok' }]);
    expect(await drillsAt('main')).toEqual(ids(1));
    bench.mainFault = undefined;
    await bench.run();
    expect(await drillsAt('main')).toEqual(ids(1, 2));
  });

  test('does not keep a copy from being complete if one document cannot be read', async () => {
    await bench.nights(1);
    for (const day of [1, 2, 3]) await putDrill(await bench.main(), report(day));
    bench.mainFault = (call, key) => {
      if (call === 'get' && key.includes(report(2).id)) throw new LifeboatError('OBJECT_ARCHIVED', 'it is archived');
    };
    const [copy] = await bench.run();
    expect(copy).toMatchObject({ status: 'ok', problems: [{ code: 'OBJECT_ARCHIVED', severity: 'warning' }] });
    const { drills } = await readDrills(await bench.copy());
    expect(drills.map((one) => one.report.id)).toEqual(ids(1, 3));
    bench.mainFault = undefined;
    await bench.run();
    expect(await drillsAt('copy')).toEqual(ids(1, 2, 3));
  });

  test('stays out of a place that a copy is only read from', async () => {
    await bench.nights(1);
    await bench.run();
    await putDrill(await bench.copy(), report(1));
    await bench.run({ copies: [{ ...bench.place(), keepsPins: true }] });
    expect(await drillsAt('main')).toEqual([]);
  });
});
