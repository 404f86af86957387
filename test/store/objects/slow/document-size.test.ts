import { expect, test } from 'vitest';
import { MAX_DOCUMENT, MAX_RECORD } from '../../../../src/store/objects/bounds.ts';
import { FORMAT, type Manifest } from '../../../../src/store/objects/manifest.ts';
import { openRepository } from '../../../../src/store/repository/open-repository.ts';
import { inMemory } from '../../memory-destination.ts';

/** Returns the manifest of a volume whose warnings take `bytes` bytes. */
function manifestWith(bytes: number, id: string): Manifest {
  const counts = { files: 0, bytes: 0, newBytes: 0, newFiles: 0 };
  const source = { ...counts, kind: 'volume', status: 'ok', summary: '', skipped: {} } as const;
  const time = '2026-11-20T03:00:00.000Z';
  return {
    ...{ format: FORMAT, id, project: 'shop', sequence: 1, previous: null, start: time, end: time },
    ...{ trigger: 'schedule', agentVersion: '0.1.0', status: 'ok' },
    sources: { 'web.media': { ...source, warnings: ['x'.repeat(bytes)] } },
  };
}

test('a document too large to read back is refused before anything is put; a smaller one is stored', async () => {
  const objects = new Map<string, string>();
  const repository = await openRepository(inMemory('main', objects), { project: 'shop', create: true, keys: {} });
  const fence = async () => {
    throw new Error('it came too far');
  };
  const large = manifestWith(MAX_RECORD, '20261120T030000Z-000001');
  await expect(repository.commit(large, { fence })).rejects.toMatchObject({
    code: 'SNAPSHOT_TOO_LARGE',
    message: expect.stringContaining('the manifest of 20261120T030000Z-000001 would have 5 MiB'),
  });
  const facts = { rows: 'x'.repeat(MAX_DOCUMENT) };
  await expect(repository.putFacts(large.id, 'web.media', facts)).rejects.toMatchObject({ code: 'SNAPSHOT_TOO_LARGE' });
  expect([...objects.keys()]).toEqual(['lifeboat.json']);
  await repository.commit(manifestWith(MAX_RECORD - 2000, '20261120T030000Z-000002'));
  expect((await repository.snapshots()).snapshots).toHaveLength(1);
});
