import { expect, test, vi } from 'vitest';
import type { Call } from '../../../src/commands/call.ts';
import { restore } from '../../../src/commands/restore.ts';
import { plainPaint } from '../../../src/report/paint.ts';
import type { RestoreResult } from '../../../src/restore/context.ts';

/** The files of a project on a new host. test/e2e/copy.test.ts restores them in a container. */

vi.mock('node:fs/promises', async (original) => ({
  ...(await original<typeof import('node:fs/promises')>()),
  stat: async () => ({ isDirectory: () => true }),
}));
vi.mock('../../../src/restore/all/project-files.ts', () => ({
  restoreProjectFiles: async (_: string, restoreInto: (into: string) => Promise<unknown>) => {
    return { files: ['compose.yml'], result: await restoreInto('/project/x') };
  },
}));

const ok = { status: 'ok', restored: [], warnings: [], checks: [] } as unknown as RestoreResult;

async function run(result: RestoreResult, json: boolean) {
  let printed = '';
  const code = await restore({
    app: { settings: {}, project: 'shop', self: { facts: { project: '' } }, restore: async () => result },
    io: {
      ...{ paint: plainPaint, stdin: {}, signal: new AbortController().signal, err: () => undefined },
      ...{ terminal: { write: () => true }, out: (text: string) => (printed += text) },
    },
    ...{ operands: ['latest', []], options: { all: true, from: '/from', yes: true }, json },
  } as unknown as Call);
  return { code, printed };
}

test('a file that does not come back is a warning, and the exit status says so', async () => {
  expect((await run(ok, false)).code).toBe(0);
  const warnings = ['.env is damaged, and was left out'];
  const partial = { ...ok, status: 'partial', warnings } as RestoreResult;
  const text = await run(partial, false);
  expect(text.code).toBe(3);
  expect(text.printed).toContain('  warning: .env is damaged, and was left out\n');
  const json = await run(partial, true);
  expect(json.code).toBe(3);
  expect(JSON.parse(json.printed)).toMatchObject({ files: ['compose.yml'], warnings });
});
