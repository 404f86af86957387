import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Tests that need the real engine or minutes of time: everything else belongs to the quick suite. */
const REAL = ['test/e2e/**/*.test.ts', 'test/**/*.engine.test.ts', 'test/**/slow/**/*.test.ts'];

/** What takes minutes begins first: at the end there would be nothing left to run beside it. */
const LONGEST =
  /\/(restore-kills|big|crash|stop-signal|volume-in-place|restore-disturbed|postgres-faults|zoo|many-databases)\.test\.ts$/;

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }: TestSpecification) => LONGEST.test(moduleId);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: REAL,
          testTimeout: 20_000,
          // Half of the quick suite's time was loading the same modules for each file.
          isolate: false,
          maxWorkers: 3,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: 'real',
          include: REAL,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          // They wait more than they work: three keep two cores busy.
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
          pool: 'forks',
        },
      },
    ],
  },
});
