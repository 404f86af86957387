import type { RecordedAsks } from '../sources/postgres/facts/facts.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { runAssert } from './asserts.ts';
import { type DrillDeps, type Part, step } from './context.ts';

/** The restored databases that asserts may be about. */
interface Askable {
  tools: Tools;
  /** databases that can be asked */
  present: readonly string[];
}

/**
 * Asks all conditions, and adds a check for each. They are about one database: another one is never asked instead.
 *
 * @param asks of the labels; of the record if the source is not in the plan, such as on another host
 */
export async function askAll(
  { settings }: DrillDeps,
  part: Part,
  asks: RecordedAsks | undefined,
  { tools, present }: Askable,
): Promise<void> {
  const { result, planned, signal } = part;
  if (!planned)
    result.notes.push(
      asks
        ? 'the source is not in the plan here, so the conditions are those that were recorded with the snapshot'
        : 'the source is not in the plan here, and no conditions were recorded with it, so none was asked',
    );
  if (!asks) return;
  const { asserts, database } = asks;
  await step(part, 'asking the asserts', async () => {
    for (const assert of asserts) {
      if (present.includes(database)) {
        const options = { tools, database, timeoutMs: settings.assertTimeoutMs, signal };
        result.checks.push(await runAssert(assert, options));
        continue;
      }
      const name = assert.name === '' ? 'assert' : `assert ${assert.name}`;
      const detail = `database ${database} was not restored, or the snapshot has nothing in it: lifeboat.drill.database names another one`;
      result.checks.push({ name, of: database, result: 'failed', expected: true, differences: [assert.sql], detail });
    }
  });
}
