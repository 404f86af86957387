import { describe, expect, test } from 'vitest';
import { pgCredentials } from '../../src/plan/pg-credentials.ts';
import { readPostgresCommand } from '../../src/plan/postgres-command.ts';

test.each([
  [['docker-entrypoint.sh', 'postgres'], {}],
  [['docker-entrypoint.sh', 'postgres', '-p', '5433'], { port: 5433 }],
  [['postgres', '-p5433'], { port: 5433 }],
  [['docker-entrypoint.sh', '-c', 'port=5433'], { port: 5433 }],
  [['postgres', '-cport=5433'], { port: 5433 }],
  [['postgres', '--port=5433'], { port: 5433 }],
  [['postgres', '-p', '1', '-c', "port = '5434'"], { port: 5434 }],
  [['postgres', '-p', 'x'], {}],
  [['postgres', '-p'], {}],
  [['/bin/sh', '-c', 'exec postgres -p 5433 -D "/my data"'], { port: 5433, directory: '/my data' }],
  [['bash', '-lc', "docker-entrypoint.sh postgres -c 'port=5433'"], { port: 5433 }],
  [['postgres', '-D', '/data'], { directory: '/data' }],
  [['postgres', '--data-directory=/data'], { dataDirectory: '/data' }],
  [
    ['postgres', '-c', 'data_directory=/data', '-c', 'config_file=/etc/pg.conf'],
    { dataDirectory: '/data', configFile: '/etc/pg.conf' },
  ],
  [['postgres', '-c', 'shared_preload_libraries=a,b'], {}],
])('the command %j says %j', (command, expected) => expect(readPostgresCommand(command)).toEqual(expected));

describe('LIFEBOAT_PGCREDENTIALS', () => {
  test('has a line for each source, escaped as in the password file of libpq', () => {
    expect(
      pgCredentials('# mine\n\ndb.postgres:backup:s3cret\r\nold.postgres::a\\:b\\\\c\nro.postgres:reader:'),
    ).toEqual({
      value: [
        { source: 'db.postgres', user: 'backup', password: 's3cret' },
        { source: 'old.postgres', password: 'a:b\\c' },
        { source: 'ro.postgres', user: 'reader' },
      ],
    });
  });
  test.each([
    'db.postgres',
    'db.postgres:a',
    'a:b:c:d',
    ':a:b',
    'db.postgres::',
    'A b:c:d',
    'db.postgres:x:y\\',
    'd:a:b\nd:c:d',
  ])('refuses %j, and shows nothing of it', (text) => {
    const { problem } = pgCredentials(text) as { problem: string };
    expect(problem).toMatch(/^has a line \d+ that /);
  });
});
