import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, expectTypeOf, test } from 'vitest';
import type { z } from 'zod';
import type { DrillReport } from '../../../src/report/drill-report.ts';
import type { Trigger } from '../../../src/report/trigger.ts';
import { type ListedPack, type Manifest, manifestKey } from '../../../src/store/objects/manifest.ts';
import type { LeaseObject } from '../../../src/store/repository/lease-row.ts';
import type { Pin } from '../../../src/store/repository/pins.ts';
import type { Tombstone } from '../../../src/store/repository/tombstones.ts';
import { PAGE_ENTRIES, parsePageKey, type WalPage } from '../../../src/store/wal/page.ts';
import { RunBench } from '../../run/run-bench.ts';
import { nameOf, SYSTEM, WalBench } from '../wal/bench.ts';
import type * as old from './version-0.1.0.ts';
import { manifest, walPage } from './version-0.1.0.ts';

test('version 0.1.0 reads all values of stored documents, and finds the fields that it needs', () => {
  // The compiler compares them: `npm run typecheck`.
  expectTypeOf<Manifest>().toExtend<z.input<typeof old.manifest>>();
  expectTypeOf<ListedPack>().toExtend<z.input<typeof old.packLine>>();
  expectTypeOf<WalPage & { format: 1 }>().toExtend<z.input<typeof old.walPage>>();
  expectTypeOf<LeaseObject>().toExtend<z.input<typeof old.lease>>();
  expectTypeOf<Pin & { format: 1 }>().toExtend<z.input<typeof old.pin>>();
  expectTypeOf<Tombstone>().toExtend<z.input<typeof old.tombstone>>();
  expectTypeOf<DrillReport>().toExtend<z.input<typeof old.evidence>>();
});

test('version 0.1.0 reads the snapshots of every trigger, and a recovery', async () => {
  const bench = new RunBench();
  try {
    await bench.open();
    const kind = 'recovery';
    const imported = { at: '2026-11-20T02:00:00.000Z', file: 'recovery to 2026-11-20 02:00:00+00', kind };
    const others: Trigger[] = ['schedule', 'catch-up', 'manual', 'safety'];
    for (const of of [
      ...others.map((trigger) => ({ trigger })),
      { trigger: 'import', request: { imported } } as const,
    ]) {
      const { snapshot = '' } = await bench.run('a', of);
      const text = readFileSync(join(bench.root, manifestKey('shop', snapshot)), 'utf8');
      expect(manifest.safeParse(JSON.parse(text)), of.trigger).toMatchObject({ success: true });
      bench.later(60_000);
    }
  } finally {
    bench.remove();
  }
});

test('version 0.1.0 joins no WAL of a later history to that of the first one', async () => {
  const bench = new WalBench();
  await bench.store(1, 5);
  const gap = { at: bench.at, timeline: 1, to: '0/300000', why: 'it went back' };
  await (await bench.open()).beginAnew(gap);
  await (await bench.open()).append({ gaps: Array.from({ length: PAGE_ENTRIES }, () => gap) });
  await bench.storeAs('other', 4, 6);
  const pages = [...bench.objects].filter(([key]) => parsePageKey(key.slice('shop/wal/db.postgres/'.length)));
  const read = pages.map(([, text]) => walPage.safeParse(JSON.parse(text)));
  expect(read.map(({ success }) => success)).toEqual([true, false, false]);
  expect(read[0]?.data).toMatchObject({ systemId: SYSTEM, segments: { 4: { name: nameOf(5) } } });
});
