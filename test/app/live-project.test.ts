import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { refuseLive } from '../../src/app/into-project.ts';
import { silentLog } from '../../src/base/log.ts';
import { createLocalDestination } from '../../src/destinations/local.ts';
import { parseSettings } from '../../src/plan/settings.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import { scratchBase } from '../store/helpers.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(scratchBase, 'lifeboat-live-'));
  mkdirSync(path.join(root, 'backups'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const destination = () => createLocalDestination({ root: path.join(root, 'backups') });

/** Stores a snapshot of a project with sources of these names and kinds. */
async function backUp(project: string, sources: Record<string, 'postgres' | 'base'>) {
  const repository = await openRepository(destination(), { project, keys: {}, create: true });
  const time = '2026-11-21T03:00:00.000Z';
  const counts = { files: 0, bytes: 0, newBytes: 0, newFiles: 0, summary: '', warnings: [], skipped: {} };
  const entries = Object.entries(sources).map(([name, kind]) => [name, { kind, status: 'ok' as const, ...counts }]);
  await repository.commit({
    ...{ format: 1, id: '20261121T030000Z-000001', project, start: time, end: time, trigger: 'schedule' },
    ...{ agentVersion: '0.1.0', status: 'ok', sources: Object.fromEntries(entries), sequence: 1, previous: null },
  });
}

function check(into: string, { scope = 'all', from }: { scope?: string; from?: string } = {}) {
  const settings = parseSettings({ LIFEBOAT_SCOPE: scope }, () => '');
  const spool = path.join(root, 'spool');
  return refuseLive(into, { destination: destination(), project: 'shop', settings, from, log: silentLog, spool });
}

describe('a project to restore into', () => {
  test('is refused if the repository has its snapshots, or sources of it', async () => {
    await backUp('blog', { 'db.postgres': 'postgres' });
    await backUp('shop', { 'db.postgres': 'postgres', 'wiki.db.postgres': 'postgres', 'db.postgres.base': 'base' });
    await expect(check('blog', { scope: 'project' })).rejects.toMatchObject({ code: 'USAGE' });
    await expect(check('wiki')).rejects.toMatchObject({
      code: 'USAGE',
      message: expect.stringContaining('holds backups of wiki, so it is no copy'),
    });
    // A refusal must not make it look like a copy.
    expect(existsSync(path.join(root, 'spool'))).toBe(false);
    await expect(check('wiki')).rejects.toMatchObject({ code: 'USAGE' });
    await check('db');
    await check('staging');
  });

  test('is a copy if a restore went into it before', async () => {
    await backUp('shop', { 'staging.db.postgres': 'postgres' });
    mkdirSync(path.join(root, 'spool/into/staging'), { recursive: true });
    await check('staging');
  });

  test('is accepted if the own repository is lost, and another one is read', async () => {
    await backUp('shop', {});
    writeFileSync(path.join(root, 'backups/lifeboat.json'), 'damaged');
    await check('staging', { from: '/from' });
    await expect(check('staging')).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });
});
