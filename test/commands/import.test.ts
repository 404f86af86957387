import { afterEach, expect, test, vi } from 'vitest';
import { importBackup } from '../../src/commands/archives.ts';
import type { Call } from '../../src/commands/call.ts';

afterEach(() => vi.unstubAllEnvs());

test('an import shows the time of the backup in local time', async () => {
  vi.stubEnv('TZ', 'Asia/Tokyo');
  let out = '';
  const report = {
    ...{ snapshot: '20261122T030000Z-aaaaaa', source: 'web.media', file: 'old.tar', at: '2024-05-01T18:00:00.000Z' },
    ...{ files: 1, bytes: 1, newBytes: 1, warnings: [], status: 'ok' },
  };
  const call = {
    app: { import: async () => report },
    io: { out: (text: string) => (out += text), stdin: {}, terminal: { write: () => true } },
    operands: ['/old.tar', 'web.media'],
    options: {},
    json: false,
  } as unknown as Call;
  expect(await importBackup(call)).toBe(0);
  expect(out).toMatch(/^ {2}made Thu 2 May 2024 03:00 \S+ \(the time of the file/m);
});
