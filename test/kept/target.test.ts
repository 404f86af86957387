import { expect, test } from 'vitest';
import { restoreTarget } from '../../src/kept/target.ts';
import type { Plan } from '../../src/plan/model.ts';

test('a restore into a source that is gone suggests the sources of its kind, because its service may have a new name', async () => {
  const plan = async (...sources: [string, string][]) =>
    ({ sources: sources.map(([kind, name]) => ({ kind, name })), problems: [] }) as unknown as Plan;
  const hint = (...sources: [string, string][]) =>
    restoreTarget({ plan: () => plan(...sources) }, 'db.postgres', 'postgres').catch(({ hint }) => hint as string);
  const alone = 'Start it with `docker compose up -d`, or restore with --to-directory DIR.';
  expect(await hint(['volume', 'web.media'])).toBe(alone);
  expect(await hint(['postgres', 'database.postgres'], ['volume', 'web.media'], ['postgres', 'crm.postgres'])).toBe(
    `${alone} To restore into another source, add --to: database.postgres, crm.postgres.`,
  );
});
