import { endianness } from 'node:os';
import { Duplex, Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import type { PostgresSource } from '../../../../src/plan/model.ts';
import { addressOf, describeAddress } from '../../../../src/sources/postgres/server/address.ts';
import { type Connecting, connectError, isHostRefusal } from '../../../../src/sources/postgres/server/connect-error.ts';
import {
  difference,
  isLoopback,
  type ReachedServer,
  ServerProof,
} from '../../../../src/sources/postgres/server/own-server.ts';
import { type ContainerServer, parsePostmaster } from '../../../../src/sources/postgres/server/postmaster.ts';
import { openSession } from '../../../../src/sources/postgres/server/session.ts';

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
    'is invalid if it is %j',
    (text) => expect(parsePostmaster(text)).toBeUndefined(),
  );
});

describe('the server of a session', () => {
  const found: ContainerServer = { postmaster: parsePostmaster(RECORD) as never, systemIdentifier: '7' };
  const own: ReachedServer = { systemIdentifier: '7', startedAt: 1795862200.5, port: 5433, postmaster: RECORD };
  const { postmaster: _, ...seenByReader } = own;
  const same: [string, ReachedServer][] = [
    ['by its record', own],
    ['whose record changed its last line', { ...own, postmaster: record((lines) => (lines[7] = 'starting')) }],
    ['by the values that every role may read', seenByReader],
    ['over a socket', { ...seenByReader, port: null }],
    ['whose libraries take long to load', { ...seenByReader, startedAt: 1795862199 + 300 }],
  ];
  test.each(same)('is the one in the container %s', (_name, reached) =>
    expect(difference(found, reached)).toBeUndefined(),
  );
  const others: [string, ReachedServer, RegExp][] = [
    ['with other data', { ...own, systemIdentifier: '8' }, /system identifier is 8/],
    ['at another port: a standby of the same', { ...own, port: 5432 }, /port 5432/],
    ['with another record', { ...own, postmaster: record((lines) => (lines[6] = '1 1')) }, /postmaster\.pid/],
    ['started before', { ...seenByReader, startedAt: 1795860000 }, /was started at/],
    ['started long after', { ...seenByReader, startedAt: 1795869999 }, /was started at/],
  ];
  test.each(others)('is another server %s', (_name, reached, why) => expect(difference(found, reached)).toMatch(why));
  test('is another server by its start and port if pg_control cannot be read', () => {
    expect(difference({ postmaster: found.postmaster as never }, { ...seenByReader, port: 1 })).toMatch(/port 1/);
  });
});

describe('the address of a server', () => {
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
  test('is the configured port without a record', () =>
    expect(describeAddress(addressOf(source, {}))).toBe('127.0.0.1:5432'));
  test('is an error for a socket in no volume, and for a server that is starting', () => {
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
      /POSTGRES_PASSWORD only applies when/,
    ],
    [
      '28P01',
      'password authentication failed for user "app"',
      { passwordFrom: 'LIFEBOAT_PGCREDENTIALS' },
      'PG_AUTH',
      /^LIFEBOAT_PGCREDENTIALS does not hold/,
    ],
    [
      '28P01',
      'password authentication failed for user "app"',
      {},
      'PG_AUTH',
      /name no password.* service `lifeboat`.*lifeboat\.postgres\.password-secret/,
    ],
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
    ['28000', 'role "app" does not exist', { passwordFrom: pg }, 'PG_AUTH', /^Name an existing role/],
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
  test.each([
    ['command "perl" in container 1 ended with status 127: perl: not found', '/run/.s.PGSQL.5432', /has no perl/],
    [
      'command "sh" in container 1 ended with status 127: sh: exec: nc: not found',
      '127.0.0.1:5432',
      /neither bash nor nc/,
    ],
    ['ended with status 69: /run/.s.PGSQL.5432: Permission denied', '/run/.s.PGSQL.5432', /unix_socket_permissions/],
    ['ended with status 69: /run/.s.PGSQL.5432: No such file or directory', '/run/.s.PGSQL.5432', /is Postgres up/],
  ])('before the server responds has its own hint: %s', (message, address, hint) => {
    const error = connectError(new LifeboatError('EXEC_FAILED', message), { ...connecting, address });
    expect(error).toMatchObject({ code: 'PG_UNREACHABLE', hint: expect.stringMatching(hint) });
  });
  test('without a message of the server means that the server does not answer', () => {
    const error = connectError(new Error('connection refused'), connecting);
    expect(error).toMatchObject({ code: 'PG_UNREACHABLE', hint: expect.stringContaining('listen at 127.0.0.1:5432') });
  });
  test.each([
    ['28000', 'no pg_hba.conf entry for host "127.0.0.1", user "app", database "shop", no encryption', true],
    ['28000', 'no pg_hba.conf entry for host "127.0.0.1", user "app", database "shop", SSL off', true],
    ['28000', 'pg_hba.conf rejects connection for host "127.0.0.1", user "app", database "shop", SSL encryption', true],
    ['28000', 'kein pg_hba.conf-Eintrag für Host »127.0.0.1«, Benutzer »app«, Datenbank »shop«, SSL aus', true],
    ['28000', 'role "app" does not exist', false],
    ['28P01', 'password authentication failed for user "pg_hba.conf"', false],
  ])('%s %s: whether the connection is tried again with or without TLS: %s', (code, words, expected) => {
    expect(isHostRefusal(Object.assign(new Error(words), { code, severity: 'FATAL' }))).toBe(expected);
  });
});

describe('the proof that a server is the one in the container', () => {
  const own: ReachedServer = { systemIdentifier: '7', startedAt: 1795862200, port: 5433 };
  interface Scene {
    host?: string;
    /** another container shares the network namespace */
    shared?: boolean;
    /** records in the container: at first, and when they are read again */
    records?: [string | undefined, string | undefined];
    /** seconds since the epoch */
    containerStart?: number;
    /** system identifier in the container's pg_control */
    control?: bigint;
    /** paths at which the container has a tmpfs */
    tmpfs?: string[];
    /** data directory in the container, and the one that the server reports to a superuser */
    home?: string;
    named?: string;
    /** the engine's status for a file that does not exist */
    status?: number;
  }
  const file = (content: string | Buffer) => {
    const header = Buffer.alloc(512);
    header.write(content.length.toString(8).padStart(11, '0'), 124);
    header.write('0', 156);
    const padding = Buffer.alloc(512 * Math.ceil(content.length / 512) - content.length);
    return Readable.from([header, Buffer.concat([Buffer.from(content), padding])]);
  };
  const proofOf = (scene: Scene) => {
    const { host = '127.0.0.1', shared = false, records = [RECORD, RECORD] } = scene;
    const { containerStart, control, tmpfs = [], status = 404, home = '/data' } = scene;
    const engine = {
      async listContainers() {
        const db = { id: 'id', name: 'db', networkMode: 'default', labels: {}, state: 'running' };
        return shared ? [db, { ...db, id: 'other', networkMode: 'container:id' }] : [db];
      },
      inspectContainer: async () => ({
        startedAt: new Date((containerStart ?? 1795862198) * 1000).toISOString(),
        ...{ mounts: [], tmpfs },
      }),
      async archive(_id: string, path: string) {
        if (path === `${home}/postmaster.pid` && records[1] !== undefined) return file(records[1]);
        if (path === `${home}/global/pg_control` && control !== undefined) {
          const id = Buffer.alloc(8);
          if (endianness() === 'LE') id.writeBigUInt64LE(control);
          else id.writeBigUInt64BE(control);
          return file(id);
        }
        const cause = Object.assign(new Error('no such file'), { statusCode: status });
        throw new LifeboatError('ENGINE_REFUSED', 'no such file', { cause });
      },
    } as never;
    const source = { containerId: 'id', containerName: 'db', dataDirectories: ['/data'] } as unknown as PostgresSource;
    const postmaster = records[0] === undefined ? undefined : parsePostmaster(records[0]);
    return new ServerProof({ engine, source, found: postmaster ? { postmaster } : {}, host, address: `${host}:5433` });
  };
  const { signal } = new AbortController();
  const sessionWith = (server: ReachedServer, named: string | undefined) =>
    ({
      async one(sql: string) {
        if (/pg_read_file/.test(sql))
          throw Object.assign(new Error('permission denied'), { code: '42501', severity: 'ERROR' });
        if (/'data_directory'/.test(sql)) return { answer: named };
        return {
          system: server.systemIdentifier,
          started: String(Math.round(server.startedAt * 1_000_000)),
          port: server.port === null ? null : String(server.port),
          superuser: named !== undefined,
        };
      },
    }) as never;
  const check = async (scene: Scene, ...reached: ReachedServer[]) => {
    const proof = proofOf(scene);
    for (const server of reached) await proof.check(sessionWith(server, scene.named), signal);
    return proof.isProved;
  };
  const other = { ...own, port: 5432 };
  const none: Scene['records'] = [undefined, undefined];

  test.each<[string, Scene, ReachedServer]>([
    ['whose record matches', {}, own],
    ['whose record matches, over a socket', { host: '/run/postgresql', shared: true }, { ...own, port: null }],
    ['that has just written its record', { shared: true, records: [undefined, RECORD] }, own],
    [
      'whose data directory only the server knows',
      { records: [undefined, RECORD], home: '/pg/17/main', named: '/pg/17/main', control: 7n },
      own,
    ],
    ['whose files nobody may read, on an unshared loopback address', { records: none, status: 403 }, other],
    ['whose files cannot be read, on an unshared loopback address', { records: none, status: 500 }, other],
    ['whose data is on a tmpfs, on an unshared loopback address', { records: none, tmpfs: ['/data'] }, other],
    [
      'with a record older than its container, on an unshared loopback address',
      { containerStart: 1795863000, control: 7n },
      other,
    ],
  ])('accepts a server %s', async (_name, scene, reached) => expect(await check(scene, reached)).toBe(true));

  test.each<[string, Scene, ReachedServer]>([
    ['that contradicts the record on an unshared loopback address', {}, other],
    ['that contradicts the record on another address', { host: '10.0.0.7' }, other],
    ['that contradicts an old record on another address', { host: '10.0.0.7', containerStart: 1795863000 }, other],
    ['that contradicts an old record over a socket', { host: '/run/postgresql', containerStart: 1795863000 }, other],
    ['that contradicts an old record in a shared network', { shared: true, containerStart: 1795863000 }, other],
    ['without a record in a shared network', { shared: true, records: none }, own],
    [
      'of other data with an old record, on an unshared loopback address',
      { containerStart: 1795863000, control: 8n },
      other,
    ],
    ['with an old record and no pg_control, on an unshared loopback address', { containerStart: 1795863000 }, other],
    ['of other data without a record, on an unshared loopback address', { records: none, control: 8n }, own],
    ['of data without a record, on an unshared loopback address', { records: none, control: 7n }, own],
    ['without data in the container, on an unshared loopback address', { records: none }, own],
    ['that reports a directory which the container does not have', { records: none, named: '/pg/17/main' }, own],
    [
      'that reports a directory of another server',
      { records: [undefined, RECORD], home: '/pg/17/main', named: '/pg/17/main', control: 8n },
      own,
    ],
    ['without data, next to a tmpfs', { records: none, tmpfs: ['/dat', '/var/lib/postgresql/data'] }, own],
    ['whose record disappeared while another server responds', { records: [RECORD, undefined] }, other],
  ])('refuses a server %s', async (_name, scene, reached) => {
    await expect(check(scene, reached)).rejects.toMatchObject({ code: 'PG_WRONG_SERVER' });
  });

  test.each<[string, Scene, RegExp, RegExp]>([
    [
      'a shared socket directory',
      { host: '/run/postgresql' },
      /share the socket directory \/run\/postgresql/,
      /network/,
    ],
    ['a shared network', { shared: true }, /network_mode/, /socket directory/],
    ['a tmpfs', { shared: true, records: none, tmpfs: ['/data'] }, /\/data is on a tmpfs/, /PGDATA/],
    ['a proxy that refuses', { shared: true, records: none, status: 403 }, /archive/, /PGDATA/],
    ['a process that forwards connections', { records: none }, /a pooler.*PGDATA, or with -D/, /network_mode/],
    ['a server that is down', { records: none, control: 7n }, /no postmaster\.pid/, /PGDATA/],
  ])('its hint names %s', async (_name, scene, hint, never) => {
    const error = await check(scene, other).catch((failure: unknown) => failure as LifeboatError);
    expect((error as LifeboatError).hint).toMatch(hint);
    expect((error as LifeboatError).hint).not.toMatch(never);
  });

  test('compares each later session with the first', async () => {
    expect(await check({}, own, own)).toBe(true);
    await expect(check({}, own, { ...own, systemIdentifier: '8' })).rejects.toMatchObject({ code: 'PG_WRONG_SERVER' });
    await expect(check({}, own, other)).rejects.toMatchObject({ code: 'PG_WRONG_SERVER' });
    const restarted = { ...own, startedAt: own.startedAt + 1 };
    await expect(check({}, own, restarted)).rejects.toMatchObject({ code: 'PG_RESTARTED' });
  });

  test('fails before a connection is opened if no proof is possible', async () => {
    await expect(proofOf({ shared: true, records: none }).mayBeAnother(signal)).rejects.toThrow(/nothing proves/);
    expect(await proofOf({ shared: true }).mayBeAnother(signal)).toBe(true);
    expect(await proofOf({ host: '/run/postgresql' }).mayBeAnother(signal)).toBe(true);
    expect(await proofOf({ records: none }).mayBeAnother(signal)).toBe(false);
  });

  test.each(['127.0.0.1', '127.1.2.3', '::1', 'localhost'])('%s is a loopback address', (host) =>
    expect(isLoopback(host)).toBe(true),
  );
  test.each(['127.evil.example', '10.0.0.7', 'db', '/run/postgresql', '::', '1270.0.0.1'])(
    '%s is not a loopback address',
    (host) => expect(isLoopback(host)).toBe(false),
  );
});

describe('a server that requests a password', () => {
  /** The messages that a client sends after a request in this form (Postgres docs, 53.7). */
  const answersTo = async (request: Buffer, guarded: boolean) => {
    const sent: Buffer[] = [];
    const stream = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        sent.push(chunk);
        if (sent.length === 1) this.push(request);
        else this.destroy();
        done();
      },
    });
    Object.assign(stream, { connect: () => setImmediate(() => stream.emit('connect')), setNoDelay() {} });
    const error = await openSession({
      dial: async () => stream,
      ...{ container: 'db', address: '127.0.0.1:5432', user: 'app', database: 'shop', application: 'test' },
      ...{ start: '', password: 'canary', guarded, signal: new AbortController().signal },
    }).catch((failure: unknown) => failure);
    return { error, sent: sent.length };
  };
  const clear = Buffer.from('5200000008 00000003'.replaceAll(' ', ''), 'hex');
  const md5 = Buffer.from('520000000c0000000501020304', 'hex');
  test.each([
    ['in clear text', clear],
    ['hashed with MD5', md5],
  ])('%s gets it only if no other server may respond', async (form, request) => {
    const guarded = await answersTo(request, true);
    expect(guarded.error).toMatchObject({ code: 'PG_AUTH', message: expect.stringContaining(form) });
    expect(guarded.sent).toBe(1);
    expect((await answersTo(request, false)).sent).toBe(2);
  });
});
