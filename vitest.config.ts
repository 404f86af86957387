import { defineConfig } from 'vitest/config';

/** Tests that need the real engine or minutes of time: everything else belongs to the quick suite. */
const REAL = ['test/e2e/**/*.test.ts', 'test/**/*.engine.test.ts', 'test/**/slow/**/*.test.ts'];

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: REAL,
          testTimeout: 20_000,
          // Half of the quick suite's time was loading the same modules for each file.
          isolate: false,
          maxWorkers: 2,
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
