import type { PostgresSource } from '../plan/model.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { runAssert } from './asserts.ts';
import { type DrillDeps, type Part, step } from './context.ts';

/** The restored databases that asserts may be about. */
interface Askable {
  tools: Tools;
  /** databases with data */
  all: readonly string[];
  /** databases that can be asked */
  present: readonly string[];
}

const SEVERAL = 'the server has several databases: name one with lifeboat.drill.database';

/** Asks all conditions of the labels, and adds a check for each. */
export async function askAll(
  { settings }: DrillDeps,
  part: Part,
  planned: PostgresSource | undefined,
  { tools, all, present }: Askable,
): Promise<void> {
  const { asserts = [], database: named } = planned?.drill ?? {};
  if (asserts.length === 0) return;
  const usual = planned && all.includes(planned.database) ? planned.database : undefined;
  const database = named ?? usual ?? (all.length === 1 ? all[0] : undefined);
  await step(part, 'asking the asserts', async () => {
    for (const assert of asserts) {
      if (database !== undefined && present.includes(database)) {
        const options = { tools, database, timeoutMs: settings.assertTimeoutMs, signal: part.signal };
        part.result.checks.push(await runAssert(assert, options));
        continue;
      }
      const name = assert.name === '' ? 'assert' : `assert ${assert.name}`;
      const why = database === undefined ? SEVERAL : `database ${database} is not in the snapshot, or was not restored`;
      part.result.checks.push({ name, of: database ?? 'server', result: 'failed', expected: true, detail: why });
    }
  });
}
