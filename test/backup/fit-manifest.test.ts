import { expect, test } from 'vitest';
import { fitManifest } from '../../src/backup/fit-manifest.ts';
import type { Captured } from '../../src/backup/outcome.ts';
import { errorInfo } from '../../src/base/errors.ts';

test('if the manifest would be too large to read back, only the largest sources fail', async () => {
  const one = (name: string, size: number) =>
    ({ report: { name, kind: 'volume' }, entry: { warnings: [], packs: ['x'.repeat(size)] } }) as unknown as Captured;
  const failures: [string, unknown][] = [];
  const failed = async ({ name }: { name: string }, error: unknown) => {
    failures.push([name, errorInfo(error).code]);
    return one(name, 0);
  };
  const captured = [one('a', 100), one('huge', 5000), one('large', 700), one('b', 100)];
  await fitManifest({ failed }, captured, 1000);
  expect(failures).toEqual([['huge', 'SNAPSHOT_TOO_LARGE']]);
  await fitManifest({ failed }, captured, 800);
  expect(failures.at(-1)).toEqual(['large', 'SNAPSHOT_TOO_LARGE']);
  expect(captured.map(({ report }) => report.name)).toEqual(['a', 'huge', 'large', 'b']);
});

/** A server of which a thousand databases failed. */
function server(): Captured {
  const error = { code: 'TOOL_FAILED', message: 'm'.repeat(300), hint: 'h'.repeat(500), cause: 'c'.repeat(1000) };
  const failed = Array.from({ length: 1000 }, (_, i) => ({ name: `db${i}`, status: 'failed', error }));
  const databases = [{ name: 'good', status: 'ok' }, ...failed];
  const warnings = Array.from({ length: 5000 }, (_, i) => `warning ${i} ${'w'.repeat(100)}`);
  return { report: { name: 'db', kind: 'postgres' }, entry: { databases, warnings } } as unknown as Captured;
}

test.each([
  [1_200_000, { code: 'TOOL_FAILED', message: 'm'.repeat(300) }, 5000, 'warning 4999'],
  [900_000, { code: 'TOOL_FAILED', message: `${'m'.repeat(100)}…` }, 5000, 'warning 4999'],
  [300_000, { code: 'TOOL_FAILED', message: `${'m'.repeat(100)}…` }, 101, '4,900 more warnings left out'],
])(
  'a server with many failed databases is stored, with as much of their errors as fits in %i bytes',
  async (...args) => {
    const [longest, error, warnings, last] = args;
    const failed = () => Promise.reject(new Error('the source failed'));
    const captured = [server()];
    await fitManifest({ failed }, captured, longest);
    const { entry, report } = captured[0] as Captured;
    expect(entry.databases).toHaveLength(1001);
    expect(entry.databases?.[1]).toEqual({ name: 'db0', status: 'failed', error });
    expect(entry.warnings).toHaveLength(warnings);
    expect(entry.warnings.at(-1)).toContain(last);
    expect(Buffer.byteLength(JSON.stringify(entry))).toBeLessThanOrEqual(longest);
    expect(report.name).toBe('db');
  },
);

test('a manifest that fits keeps all texts', async () => {
  const captured = [server()];
  await fitManifest({ failed: () => Promise.reject(new Error('the source failed')) }, captured);
  expect(captured).toEqual([server()]);
});
