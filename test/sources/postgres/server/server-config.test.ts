import { expect, test } from 'vitest';
import { configNotes, readServerConfig } from '../../../../src/sources/postgres/server/server-config.ts';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';

const session = (answers: Record<string, object[] | Error>) =>
  ({
    async all(sql: string) {
      const [, answer = []] = Object.entries(answers).find(([part]) => sql.includes(part)) ?? [];
      if (answer instanceof Error) throw answer;
      return answer;
    },
  }) as unknown as Session;

test('values that may be secrets are not recorded', async () => {
  const setting = (name: string, type: string | null, value = 'hunter2') => ({ name, type, value });
  const { altered } = await readServerConfig(
    session({
      pg_file_settings: [
        setting('work_mem', 'integer', '8MB'),
        setting('ssl', 'bool', 'on'),
        setting('log_line_prefix', 'string', '%m '),
        ...['primary_conninfo', 'ssl_passphrase_command', 'archive_command', 'restore_command'].map((name) =>
          setting(name, 'string'),
        ),
        setting('app.jwt', 'string'),
        setting('gone.setting', null),
      ],
    }),
  );
  expect(altered?.filter(({ value }) => value !== undefined)).toEqual([
    { name: 'work_mem', value: '8MB' },
    { name: 'ssl', value: 'on' },
    { name: 'log_line_prefix', value: '%m ' },
  ]);
  expect(JSON.stringify(altered)).not.toContain('hunter2');
  expect(altered).toHaveLength(9);
});

test('what ALTER ROLE ALL sets is recorded, and a server that lacks it is noted', async () => {
  const recorded = await readServerConfig(
    session({
      pg_db_role_setting: [
        { name: 'work_mem', type: 'integer', value: '9MB' },
        { name: 'app.jwt', type: null, value: 'hunter2' },
      ],
    }),
  );
  expect(recorded.everyone).toEqual([{ name: 'work_mem', value: '9MB' }, { name: 'app.jwt' }]);
  expect(configNotes(recorded, {})).toEqual([
    'the server of the snapshot had settings from ALTER ROLE ALL that this one lacks: work_mem = 9MB; app.jwt (its value is not recorded)',
  ]);
  expect(configNotes(recorded, recorded)).toEqual([]);
});

test('values that a role may not read are left out', async () => {
  const denied = Object.assign(new Error('permission denied'), { code: '42501', severity: 'ERROR' });
  expect(
    await readServerConfig(session({ pg_file_settings: denied, pg_settings: [], pg_hba_file_rules: denied })),
  ).toEqual({});
});

test('notes name only what the server of the snapshot had and this one lacks', () => {
  const recorded = {
    preload: 'timescaledb, "pg_cron"',
    altered: [{ name: 'work_mem', value: '8MB' }, { name: 'archive_command' }],
    rules: ['host all all trust', 'local all all peer'],
  };
  expect(configNotes(recorded, recorded)).toEqual([]);
  expect(configNotes(undefined, recorded)).toEqual([]);
  expect(configNotes(recorded, { preload: 'timescaledb', altered: [], rules: ['local all all peer'] })).toEqual([
    'the server of the snapshot had pg_cron in shared_preload_libraries, which this one lacks',
    'the server of the snapshot had settings from ALTER SYSTEM that this one lacks: work_mem = 8MB; archive_command (its value is not recorded)',
    'the server of the snapshot had rules in pg_hba.conf that this one lacks: host all all trust',
  ]);
  // A role that may not read the present values cannot compare them.
  expect(configNotes(recorded, {})).toEqual([]);
});
