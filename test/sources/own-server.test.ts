import { describe, expect, test } from 'vitest';
import type { PostgresSource } from '../../src/plan/model.ts';
import { addressOf, describeAddress } from '../../src/sources/postgres/address.ts';
import { type Connecting, connectError, wantsTls } from '../../src/sources/postgres/connect-error.ts';
import { difference, type ReachedServer } from '../../src/sources/postgres/own-server.ts';
import { type ContainerServer, parsePostmaster } from '../../src/sources/postgres/postmaster.ts';

const RECORD =
  '36\n/var/lib/postgresql/data\n1795862199\n5433\n/var/run/postgresql\n*\n  1728761         4\nready   \n';
const record = (change: (lines: string[]) => void = () => undefined) => {
  const lines = RECORD.split('\n');
  change(lines);
  return lines.join('\n');
};

describe('postmaster.pid', () => {
  test('is read', () => {
    expect(parsePostmaster(RECORD)).toMatchObject({
      dataDirectory: '/var/lib/postgresql/data',
      startedAt: 1795862199,
      port: 5433,
      socketDirectory: '/var/run/postgresql',
      listenAddress: '*',
    });
  });
  test.each(['', 'x', '36\n/data\n', record((lines) => (lines[3] = 'port')), record((lines) => (lines[2] = ''))])(
    'is none when it is %j',
    (text) => expect(parsePostmaster(text)).toBeUndefined(),
  );
});

describe('the server that was reached', () => {
  const found: ContainerServer = { postmaster: parsePostmaster(RECORD) as never, systemIdentifier: '7' };
  const own: ReachedServer = { systemIdentifier: '7', startedAt: 1795862200.5, port: 5433, postmaster: RECORD };
  const { postmaster: _, ...seenByReader } = own;
  const same: [string, ReachedServer][] = [
    ['by its record', own],
    ['whose record changed its last line', { ...own, postmaster: record((lines) => (lines[7] = 'starting')) }],
    ['by what everybody may read', seenByReader],
    ['over a socket', { ...seenByReader, port: null }],
    ['whose libraries took long to load', { ...seenByReader, startedAt: 1795862199 + 300 }],
  ];
  test.each(same)('is the own one %s', (_name, reached) => expect(difference(found, reached)).toBeUndefined());
  const others: [string, ReachedServer, RegExp][] = [
    ['with other data', { ...own, systemIdentifier: '8' }, /system identifier is 8/],
    ['at another port: a standby of the same', { ...own, port: 5432 }, /port 5432/],
    ['with another record', { ...own, postmaster: record((lines) => (lines[6] = '1 1')) }, /postmaster\.pid/],
    ['started before', { ...seenByReader, startedAt: 1795860000 }, /was started at/],
    ['started long after', { ...seenByReader, startedAt: 1795869999 }, /was started at/],
  ];
  test.each(others)('is another one %s', (_name, reached, why) => expect(difference(found, reached)).toMatch(why));
  test('is another one by its start and port where pg_control cannot be read', () => {
    expect(difference({ postmaster: found.postmaster as never }, { ...seenByReader, port: 1 })).toMatch(/port 1/);
  });
});

describe('where a server is reached', () => {
  const mounts = [{ type: 'volume', name: 'run', source: '/v', destination: '/run/postgresql', writable: true }];
  const source = { containerName: 'db', port: 5432, mounts } as unknown as PostgresSource;
  const at = (address: string, socket = '/var/run/postgresql') =>
    describeAddress(
      addressOf(source, {
        postmaster: parsePostmaster(record((lines) => lines.splice(4, 2, socket, address))) as never,
      }),
    );
  test.each([
    ['*', '127.0.0.1:5433'],
    ['0.0.0.0', '127.0.0.1:5433'],
    ['localhost', 'localhost:5433'],
    ['10.0.0.7', '10.0.0.7:5433'],
    ['::', '[::1]:5433'],
    ['fd00::7', '[fd00::7]:5433'],
    ['', '/var/run/postgresql/.s.PGSQL.5433'],
  ])('%j is %s', (address, expected) => expect(at(address)).toBe(expected));
  test('is the port of the settings without a record', () =>
    expect(describeAddress(addressOf(source, {}))).toBe('127.0.0.1:5432'));
  test('is nowhere for a socket in no volume, and for a server that begins', () => {
    expect(() => at('', '/tmp')).toThrow(/Unix socket in \/tmp is in no volume/);
    expect(() => at('', '')).toThrow(/does not listen yet/);
  });
});

describe('a refused connection', () => {
  const connecting: Connecting = { container: 'db', address: '127.0.0.1:5432', user: 'app', database: 'shop' };
  const refused = (code: string, message: string, more: Partial<Connecting> = {}) => {
    const error = Object.assign(new Error(message), { code, severity: 'FATAL' });
    return connectError(error, { ...connecting, ...more });
  };
  const pg = 'POSTGRES_PASSWORD';
  test.each([
    [
      '28P01',
      'password authentication failed for user "app"',
      { passwordFrom: pg },
      'PG_AUTH',
      /POSTGRES_PASSWORD only counts when/,
    ],
    [
      '28P01',
      'password authentication failed for user "app"',
      { passwordFrom: 'LIFEBOAT_PGCREDENTIALS' },
      'PG_AUTH',
      /^LIFEBOAT_PGCREDENTIALS does not hold/,
    ],
    ['28P01', 'password authentication failed for user "app"', {}, 'PG_AUTH', /No password is known/],
    [
      '28P01',
      'x',
      { passwordFrom: 'POSTGRES_PASSWORD_FILE', missingFile: '/run/secrets/pw' },
      'PG_AUTH',
      /names \/run\/secrets\/pw, and db has no such file/,
    ],
    [
      '28000',
      'no pg_hba.conf entry for host "127.0.0.1", user "app", database "shop", no encryption',
      { passwordFrom: pg },
      'PG_AUTH',
      /^Add a line to pg_hba\.conf/,
    ],
    [
      '28000',
      'pg_hba.conf rejects connection for host "127.0.0.1"',
      { passwordFrom: pg },
      'PG_AUTH',
      /^Add a line to pg_hba\.conf/,
    ],
    ['28000', 'role "app" does not exist', { passwordFrom: pg }, 'PG_AUTH', /^Name a role that the server has/],
    ['28000', 'role "app" is not permitted to log in', {}, 'PG_AUTH', /LOGIN/],
    ['28000', 'Peer authentication failed for user "app"', {}, 'PG_AUTH', /operating system/],
    ['28000', 'connection requires a valid client certificate', {}, 'PG_AUTH', /certificate/],
    ['28000', 'something new', { passwordFrom: pg }, 'PG_AUTH', undefined],
    ['42501', 'permission denied for database "shop"', {}, 'PG_AUTH', /GRANT CONNECT ON DATABASE/],
    ['53300', 'sorry, too many clients already', {}, 'PG_UNREACHABLE', /max_connections/],
    [
      '53300',
      'remaining connection slots are reserved for roles with the SUPERUSER attribute',
      {},
      'PG_UNREACHABLE',
      /superuser_reserved_connections/,
    ],
    ['53300', 'too many connections for role "app"', {}, 'PG_UNREACHABLE', /CONNECTION LIMIT/],
    ['57P03', 'the database system is starting up', {}, 'PG_UNREACHABLE', /starting/],
    ['P0001', 'no password for you', { passwordFrom: pg }, 'PG_UNREACHABLE', undefined],
    ['3D000', 'database "shop" does not exist', {}, 'PG_DATABASE_UNKNOWN', /Name a database that exists/],
  ] as const)('%s %s', (state, message, more, code, hint) => {
    const error = refused(state, message, more);
    expect(error.code).toBe(code);
    if (hint === undefined) expect(error.hint).toBeUndefined();
    else expect(error.hint).toMatch(hint);
  });
  test('without a word of the server is a server that does not answer', () => {
    const error = connectError(new Error('connection refused'), connecting);
    expect(error).toMatchObject({ code: 'PG_UNREACHABLE', hint: expect.stringContaining('listen at 127.0.0.1:5432') });
  });
  test('asks for TLS in the words of each version', () => {
    const entry = 'no pg_hba.conf entry for host "127.0.0.1", user "app", database "shop", ';
    const state = { code: '28000', severity: 'FATAL' };
    const wants = (words: string) => wantsTls(Object.assign(new Error(words), state));
    expect([wants(`${entry}no encryption`), wants(`${entry}SSL off`), wants(`${entry}SSL encryption`)]).toEqual([
      true,
      true,
      false,
    ]);
  });
});
