import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DISK_SCRIPT } from '../../../../src/sources/postgres/throwaway/disk-watch.ts';

let bin: string;
beforeEach(() => {
  bin = mkdtempSync(path.join(tmpdir(), 'lifeboat-df-'));
});
afterEach(() => rmSync(bin, { recursive: true, force: true }));

const GIB = 1024 ** 2;

/** Runs the script with a `df` that shows these free KiB one after the other. Resolves to the exit status. */
function watch(...free: (number | '')[]): Promise<{ status: number; left: string }> {
  const list = path.join(bin, 'list');
  writeFileSync(list, free.map((kib) => `disk 1 1 ${kib}\n`).join(''));
  const script = `#!/bin/sh\necho 'Filesystem 1024-blocks Used Available'; head -n 1 ${list}; sed -i 1d ${list}\n`;
  for (const [name, text] of [
    ['df', script],
    ['sleep', '#!/bin/sh\n'],
  ] as const) {
    writeFileSync(path.join(bin, name), text);
    chmodSync(path.join(bin, name), 0o755);
  }
  return new Promise((resolve) => {
    const env = { PATH: `${bin}:${process.env.PATH}` };
    execFile('sh', ['-c', DISK_SCRIPT, '/tmp'], { env }, (error, left) => {
      resolve({ status: typeof error?.code === 'number' ? error.code : 0, left });
    });
  });
}

test.each([
  ['less than 1 GiB is free', [100 * GIB, 2 * GIB, GIB, GIB - 1], 3],
  ['half of a small disk is used', [GIB, GIB / 2, GIB / 2 - 1], 3],
  ['df shows nothing', [100 * GIB, 100 * GIB, ''], 0],
] as const)('ends when %s', async (_, free, status) => {
  expect((await watch(...free)).status).toBe(status);
});
