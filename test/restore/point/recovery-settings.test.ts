import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { SERVE_SCRIPT, SINGLE_SCRIPT, START_SCRIPT } from '../../../src/restore/point/recovery-settings.ts';
import { scratchBase } from '../../store/helpers.ts';

/** The scripts run with programs that stand in for those of Postgres. */
let directory: string;
let data: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(scratchBase, 'lifeboat-recovery-'));
  data = path.join(directory, 'data');
  for (const name of ['data', 'bin', 'run']) mkdirSync(path.join(directory, name));
});
afterEach(() => rmSync(directory, { recursive: true }));

function program(name: string, script: string): void {
  const file = path.join(directory, 'bin', name);
  writeFileSync(file, `#!/bin/sh\n${script}\n`);
  chmodSync(file, 0o755);
}

/** Runs a script of a server whose base backup had room for some prepared transactions. Returns its exit status. */
function run(script: string, { prepared, status = 0 }: { prepared: number; status?: number }): number {
  program(
    'pg_controldata',
    `echo "max_connections setting:              100"; echo "max_prepared_xacts setting:           ${prepared}"
echo "max_worker_processes setting: 8"; echo "max_wal_senders setting: 10"; echo "max_locks_per_xact setting: 64"`,
  );
  program('postgres', `echo "$@" > ${directory}/arguments; ls ${data} > ${directory}/seen; exit ${status}`);
  const here = script.replaceAll('/run/lifeboat', path.join(directory, 'run'));
  const env = { PATH: `${path.join(directory, 'bin')}:${process.env.PATH}`, FETCH: 'true' };
  try {
    execFileSync('sh', ['-c', here, data, '-c', 'port=1'], { env });
    return 0;
  } catch (error) {
    return (error as { status: number }).status;
  }
}
const read = (name: string) => readFileSync(path.join(directory, name), 'utf8');

describe.each([
  ['recovers', START_SCRIPT],
  ['serves', SERVE_SCRIPT],
  ['runs single commands', SINGLE_SCRIPT],
])('a server that %s', (_, script) => {
  test.each([
    [0, 1000],
    [1000, 1000],
    [5000, 5000],
  ])('has room for prepared transactions: %i in the base backup, %i here', (prepared, room) => {
    expect(run(script, { prepared })).toBe(0);
    expect(read('arguments')).toContain(`-c max_prepared_transactions=${room} `);
    expect(read('arguments')).toContain('-c port=1');
  });

  test.each([
    ['17', /-c wal_keep_size=\d+MB/],
    ['12', /-c wal_keep_segments=\d+/],
    ['9.6', /-c wal_keep_segments=\d+/],
  ])('keeps the WAL from the end of the recovery on, in version %s', (version, setting) => {
    writeFileSync(path.join(data, 'PG_VERSION'), `${version}\n`);
    expect(run(script, { prepared: 0 })).toBe(0);
    expect(read('arguments')).toMatch(setting);
  });

  test('has none of the settings of ALTER SYSTEM, which come back also if it fails', () => {
    const file = path.join(data, 'postgresql.auto.conf');
    for (const status of [0, 1]) {
      writeFileSync(file, "recovery_min_apply_delay = '1h'\n");
      expect(run(script, { prepared: 0, status })).toBe(status);
      expect(read('seen').split('\n')).not.toContain('postgresql.auto.conf');
      expect(readFileSync(file, 'utf8')).toContain('1h');
      expect(existsSync(`${file}.lifeboat`)).toBe(false);
    }
  });
});
