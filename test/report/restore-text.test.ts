import { expect, test } from 'vitest';
import type { RestoreReport } from '../../src/report/events.ts';
import { restoreLines } from '../../src/report/restore-text.ts';

const report: RestoreReport = {
  ...{ id: '20261120T030000Z-aaaaaa', project: 'shop', verb: 'restore', source: 'web.media', target: 'web.media' },
  ...{ snapshot: 's', start: '2026-11-20T03:00:00Z', end: '2026-11-20T03:00:20Z', status: 'ok' },
  ...{ restored: [], steps: [], checks: [], canRollBack: false, warnings: [] },
};

test.each([
  [{ stoppedMs: 10_300, withoutDataMs: 2 }, ['  services were stopped for 10.3 s; the swap of the data took 2 ms']],
  [{ stoppedMs: 900 }, ['  services were stopped for 900 ms']],
  [{ withoutDataMs: 2 }, ['  the swap of the data took 2 ms']],
  [{}, []],
])('the downtime of services and of the data are two numbers: %j', (times, lines) => {
  expect(restoreLines({ ...report, ...times })).toEqual(lines);
});
