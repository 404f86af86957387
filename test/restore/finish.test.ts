import { expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import type { RestoreReport } from '../../src/report/events.ts';
import { conclude, whileInPlace } from '../../src/restore/finish.ts';

const stopped = new LifeboatError('INTERRUPTED', 'the run was asked to stop');
const report = (changes: Partial<RestoreReport>) =>
  ({
    id: 'r1',
    verb: 'restore',
    restored: [{ target: 'db.postgres: app' }],
    canRollBack: true,
    ...changes,
  }) as RestoreReport;
const hintOf = (...args: Parameters<typeof whileInPlace>) => (whileInPlace(...args) as LifeboatError).hint;

test('an error before any data is swapped stays as it is', () => {
  expect(whileInPlace(stopped, report({ restored: [] }))).toBe(stopped);
});

test('an error after a swap says which data is in place, which is not, and how to undo it', () => {
  expect(whileInPlace(stopped, report({}))).toMatchObject({ code: 'INTERRUPTED', message: stopped.message });
  expect(hintOf(stopped, report({}))).toBe(
    'The restored data is in place, complete; `lifeboat rollback r1` brings the old data back. Check that all services that use it run. If a service has `lifeboat.exec.restored`, run that command.',
  );
  const error = { code: 'PG_STALLED' as const, message: 'no progress' };
  const partly = report({ failed: [{ target: 'old.postgres', error }] });
  expect(hintOf(stopped, partly, ['web.media'])).toContain(
    'db.postgres: app: the restored data is in place, complete. old.postgres, web.media: unchanged; `lifeboat rollback r1`',
  );
});

test('the id of a rollback is that of its restore, and only data that was put aside can come back', () => {
  const back = report({ verb: 'rollback', of: 'r0', canRollBack: false });
  expect(hintOf(stopped, back)).toBe('The old data is in place, complete. Check that all services that use it run.');
  expect(hintOf(stopped, { ...back, canRollBack: true })).toContain('`lifeboat rollback r0` undoes it');
});

test('a record that cannot be stored is a warning in the own repository, and none in a place named with --from', async () => {
  const levels = async (otherRepository: boolean) => {
    const heard: string[] = [];
    const at = (level: string) => () => void heard.push(level);
    const log = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
    const dispatcher = { emit: () => undefined, flush: async () => undefined };
    const deps = { agentVersion: '1', dispatcher, log, otherRepository, ended: () => new Date(), state: {} };
    const done = report({ status: 'ok', checks: [], start: '2026-11-20T03:00:00Z' });
    const repository = () => Promise.reject(new LifeboatError('DEST_UNWRITABLE', '/from cannot be written'));
    await conclude(deps as never, repository, done, undefined);
    return heard;
  };
  expect(await levels(false)).toEqual(['warn']);
  expect(await levels(true)).toEqual(['info']);
});
