import { basename } from 'node:path';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Tests that need the real engine or minutes of time: everything else belongs to the quick suite. */
const REAL = ['test/e2e/**/*.test.ts', 'test/**/*.engine.test.ts', 'test/**/slow/**/*.test.ts'];

/** The files that take longest, in the order in which they start: one that started last would run alone. */
const LONGEST = [
  ...[
    'restore-kills',
    'restore-disturbed',
    'zoo',
    'postgres-faults-spool',
    'postgres-faults',
    'volume-in-place',
    'copy',
  ],
  ...[
    'product-restore',
    'pitr',
    'pitr-kills',
    'pitr-in-place',
    'drill',
    'big',
    'stop-signal',
    'postgres-parts',
    'stop',
    'restore-table',
    'runbook',
    'restore-in-place',
    'bucket',
    'restore-rules',
  ],
  ...['damaged-repositories', 'getting-started', 'source-status', 'sqlite', 'parts'],
  ...['which-server', 'restore-faults', 'disk', 'crash', 'many-databases', 'postgres-credentials', 'volumes', 'prune'],
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const at = LONGEST.indexOf(basename(moduleId, '.test.ts'));
      return at < 0 ? LONGEST.length : at;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
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
          testTimeout: 60_000,
          expect: { poll: { timeout: 15_000 } },
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
          testTimeout: 600_000,
          expect: { poll: { timeout: 60_000 } },
          hookTimeout: 600_000,
          // They wait more than they work: three keep two cores busy.
          maxWorkers: 3,
          sequence: { groupOrder: 1 },
          pool: 'forks',
        },
      },
    ],
  },
});
