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
import type { WalPage } from '../../../src/store/wal/page.ts';
import { RunBench } from '../../run/run-bench.ts';
import type * as old from './version-0.1.0.ts';
import { manifest } from './version-0.1.0.ts';

test('version 0.1.0 reads all values of stored documents, and finds the fields that it needs', () => {
  // The compiler compares them: `npm run typecheck`.
  expectTypeOf<Manifest>().toExtend<z.input<typeof old.manifest>>();
  expectTypeOf<ListedPack>().toExtend<z.input<typeof old.packLine>>();
  expectTypeOf<WalPage>().toExtend<z.input<typeof old.walPage>>();
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
