import { expect, test } from 'vitest';
import { accept } from '../../src/commands/accept.ts';
import type { Call } from '../../src/commands/call.ts';
import { renderManifest, show } from '../../src/commands/show.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { Signing } from '../../src/store/repository/signing.ts';

const manifestOf = (id: string, source: string, status = 'ok') => ({
  manifest: { id, end: id, trigger: 'manual', sources: { [source]: { kind: 'postgres', status, summary: id } } },
});

test('show latest SOURCE shows the newest snapshot that has the source', async () => {
  const snapshots = [
    manifestOf('20261120T030000Z-aaaaaa', 'other.postgres'),
    manifestOf('20261119T030000Z-aaaaaa', 'db.postgres', 'partial'),
    manifestOf('20261118T030000Z-aaaaaa', 'db.postgres'),
  ];
  const repository = {
    signing: new Signing('repository'),
    snapshots: async () => ({ snapshots, damaged: [] }),
    resolve: async () => snapshots[0],
  };
  let out = '';
  const call = {
    app: { repository: async () => repository as unknown as Repository },
    io: { out: (text: string) => (out += text) },
    operands: ['latest', 'db.postgres'],
    options: {},
    json: true,
  } as unknown as Call;
  expect(await show(call)).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ summary: '20261118T030000Z-aaaaaa' });
});

test('accept creates no repository in an empty place', async () => {
  const asked: unknown[] = [];
  const app = {
    settings: { copies: [], timeZone: 'UTC' },
    state: { results: async () => ({}) },
    now: () => new Date(),
    repository: async (options: unknown) => {
      asked.push(options);
      return { snapshots: async () => ({ snapshots: [], damaged: [] }) };
    },
    plan: async () => ({ sources: [] }),
  };
  const call = { app, io: { signal: new AbortController().signal }, operands: ['web.media'] } as unknown as Call;
  await expect(accept(call)).rejects.toMatchObject({ code: 'SOURCE_UNKNOWN' });
  expect(asked).toEqual([{ create: false }]);
});

test('accept confirms only that a copy is empty', async () => {
  const saved: unknown[] = [];
  const made = { complete: '2026-11-20T03:00:00.000Z', made: '2026-11-01T03:00:00.000Z', highest: 7 };
  const accepting = (isEmpty: boolean) => {
    const app = {
      settings: { copies: [{ name: '/nas' }] },
      copies: [{ name: '/nas', isEmpty: async () => isEmpty }],
      state: { copies: async () => ({ '/nas': made }), saveCopies: async (all: unknown) => void saved.push(all) },
      lock: async () => ({ release: async () => undefined }),
    };
    const io = { signal: new AbortController().signal, out: () => undefined };
    return accept({ app, io, operands: ['/nas'], options: {}, json: true } as unknown as Call);
  };
  await expect(accepting(false)).rejects.toMatchObject({ code: 'NOTHING_TO_ACCEPT' });
  expect(saved).toEqual([]);
  expect(await accepting(true)).toBe(0);
  expect(saved).toEqual([{ '/nas': { highest: 7 } }]);
});

test('show has one word for a partial result, and the message of a failure on a line of its own', () => {
  const entry = { bytes: 2048, newBytes: 0, summary: '3 files' };
  const message = `database container shop-db-1 ${'refused '.repeat(20)}the credentials`;
  const text = renderManifest({
    ...{ id: '20261120T030000Z-aaaaaa', project: 'shop', status: 'partial', trigger: 'manual', agentVersion: '1' },
    sources: {
      config: { ...entry, status: 'ok' },
      'db.postgres': { ...entry, status: 'failed', summary: '', error: { code: 'PG_AUTH', message } },
      'web.media': { ...entry, status: 'partial' },
    },
  } as unknown as Manifest);
  const lines = text.split('\n');
  expect(lines[0]).toContain('· partly failed · manual ·');
  expect(lines[3]).toBe(`    ${message} (PG_AUTH)`);
  expect(lines[4]).toContain('partly failed');
  for (const line of [lines[1], lines[2], lines[4]]) expect(line?.length).toBeLessThan(80);
});
