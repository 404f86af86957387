import { expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { RestoreReport } from '../../src/report/events.ts';
import { conclude, whileInPlace } from '../../src/restore/finish.ts';
import type { JournalEntry } from '../../src/run/journal.ts';

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
    const run = { ended: () => new Date(), journal: { record: () => undefined }, signal: new AbortController().signal };
    const deps = { agentVersion: '1', dispatcher, log, otherRepository, state: {}, ...run };
    const done = report({ status: 'ok', checks: [], start: '2026-11-20T03:00:00Z' });
    const repository = () => Promise.reject(new LifeboatError('DEST_UNWRITABLE', '/from cannot be written'));
    await conclude(deps as never, repository, done, undefined);
    return heard;
  };
  expect(await levels(false)).toEqual(['warn']);
  expect(await levels(true)).toEqual(['info']);
});

test('the journal keeps the report before it is stored and sent, and an interrupted run waits only briefly', async () => {
  const steps: unknown[] = [];
  const dispatcher = {
    emit: () => void steps.push('sent'),
    flush: async (limitMs: number) => void steps.push(limitMs),
  };
  const journal = { record: (entry: JournalEntry) => void steps.push(entry) };
  const destination = { put: async () => void steps.push('stored') };
  const run = { ended: () => new Date(0), journal, signal: AbortSignal.abort(stopped) };
  const deps = { agentVersion: '1', dispatcher, log: silentLog, state: {}, ...run };
  const done = report({ status: 'ok', checks: [], start: '2026-11-20T03:00:00Z' });
  await conclude(deps as never, async () => ({ destination, project: 'shop' }) as never, done, stopped);
  const error = { code: 'INTERRUPTED', message: stopped.message };
  const ended = { ...done, end: '1970-01-01T00:00:00.000Z', status: 'partial', error };
  expect(steps).toEqual([{ type: 'ended', report: ended }, 'stored', 'sent', 4000]);
});
