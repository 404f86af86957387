import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';

/** Zstd gets a fixed limit of threads and memory, however many cores the machine has. */

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lifeboat-zstd-'));
  const program = join(directory, 'zstd');
  writeFileSync(program, `#!/bin/sh\necho "$@" >> ${directory}/calls\nexec cat\n`);
  chmodSync(program, 0o755);
  vi.stubEnv('PATH', `${directory}${delimiter}${process.env.PATH}`);
});
afterEach(() => {
  vi.unstubAllEnvs();
  vi.doUnmock('node:os');
  vi.resetModules();
  rmSync(directory, { recursive: true, force: true });
});

test.each([
  [1, '-T1'],
  [2, '-T2'],
  [128, '-T4'],
])('with %i cores', async (cores, threads) => {
  vi.resetModules();
  vi.doMock('node:os', async (original) => ({ ...(await original<object>()), availableParallelism: () => cores }));
  const { seal, unseal } = await import('../../../src/store/seal/seal.ts');
  const { streamOf } = await import('../../../src/store/objects/objects.ts');
  expect(String(await buffer(seal(streamOf('x'), { compress: true, keys: {} }).stream))).toBe('x');
  expect(String(await buffer(unseal(streamOf('x'), 'object.zst', {})))).toBe('x');
  const [compress = '', decompress] = readFileSync(join(directory, 'calls'), 'utf8').trim().split('\n');
  expect(compress.split(' ')).toContain(threads);
  expect(decompress?.split(' ')).toContain('--memory=128MiB');
});
