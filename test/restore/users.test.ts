import { describe, expect, test } from 'vitest';
import type { ContainerFacts, PostgresSource } from '../../src/plan/model.ts';
import { findUsers } from '../../src/restore/users.ts';
import type { Client } from '../../src/sources/postgres/facts/clients.ts';

type More = Partial<ContainerFacts> & { at?: string; needs?: string };

/**
 * A container of project `shop` in its network. `at`: last part of its address; `needs`: services in its `depends_on`.
 */
function container(service: string, { at, needs, ...more }: More = {}): ContainerFacts {
  const labels: Record<string, string> = needs
    ? {
        'com.docker.compose.depends_on': needs
          .split(',')
          .map((one) => `${one}:service_started:false`)
          .join(','),
      }
    : {};
  return {
    id: `id-${service}`,
    name: `shop-${service}-1`,
    project: 'shop',
    service,
    imageId: 'i',
    running: true,
    imageLabels: {},
    env: {},
    mounts: [],
    networkMode: 'shop_default',
    networks: { shop_default: { addresses: at === undefined ? [] : [`10.0.0.${at}`], aliases: [service] } },
    ...more,
    labels: { ...labels, ...more.labels },
  };
}

const db = container('db', { at: '2' });
const target = { kind: 'postgres', service: 'db', containerId: db.id, containerName: db.name, project: 'shop' };

function client(address: string | null, more: Partial<Client> = {}): Client {
  return { address, application: 'app', role: 'app', database: 'shop', ...more };
}

function find(containers: ContainerFacts[], clients: Client[] = [], never = ['id-lifeboat']) {
  const { using, others } = findUsers({
    all: [db, ...containers],
    target: target as PostgresSource,
    clients: { clients, socketDirectories: ['/var/run/postgresql'] },
    never: new Set([db.id, ...never]),
  });
  return { using: using.map(({ service }) => service), others };
}

/** Returns the services that are stopped. */
const stopped = (containers: ContainerFacts[], clients: Client[] = []) => find(containers, clients).using;

describe('services that use a database', () => {
  test('depend on it directly or through others, and start in that order', () => {
    const chain = [
      container('web', { needs: 'sidekiq,redis' }),
      container('api', { needs: 'db' }),
      container('sidekiq', { needs: 'api' }),
      container('redis'),
      container('proxy', { needs: 'redis' }),
    ];
    expect(stopped(chain)).toEqual(['api', 'sidekiq', 'web']);
  });

  test('do not include what only shares the network, depends on Lifeboat, or has ended', () => {
    const lifeboat = container('lifeboat', { needs: 'db', at: '3' });
    const apart = [
      lifeboat,
      container('after', { needs: 'lifeboat' }),
      container('plain', { at: '4' }),
      container('migrate', { needs: 'db', running: false }),
    ];
    expect(stopped(apart, [client('10.0.0.3')])).toEqual([]);
  });

  test('go on through a container that has ended', () => {
    expect(
      stopped([container('migrate', { needs: 'db', running: false }), container('web', { needs: 'migrate' })]),
    ).toEqual(['web']);
  });

  test('include the sessions of a worker and of a pooler, and what uses the pooler', () => {
    const containers = [
      container('worker', { at: '5' }),
      container('pgbouncer', { at: '6' }),
      container('app', { env: { DATABASE_URL: 'postgresql+asyncpg://u:p%40x@pgbouncer:6432/shop' } }),
      container('cron', { needs: 'pgbouncer' }),
      container('cache', { at: '7' }),
    ];
    expect(stopped(containers, [client('10.0.0.5'), client('10.0.0.6')]).sort()).toEqual([
      ...['app', 'cron', 'pgbouncer', 'worker'],
    ]);
  });

  test.each([
    ['a host variable', { PGHOST: 'db' }, true],
    ['a host variable with a port', { DB_HOST: 'db:5432' }, true],
    ['a prefixed variable', { PAPERLESS_DBHOST: 'db' }, true],
    ['a nested variable', { AUTHENTIK_POSTGRESQL__HOST: 'db' }, true],
    ['a typed variable', { DB_POSTGRESDB_HOST: 'db' }, true],
    ['a URL', { URL: 'postgres://u:p@db/shop' }, true],
    ['a list of hosts', { URL: 'postgres://u:p@other:1,db:2/shop' }, true],
    ['JDBC', { SPRING_DATASOURCE_URL: 'jdbc:postgresql://db:5432/shop' }, true],
    ['libpq', { DSN: 'host=db dbname=shop user=u' }, true],
    ['.NET', { ConnectionStrings__Default: 'Host=db;Database=shop;Username=u' }, true],
    ['the name of the container', { PGHOST: 'shop-db-1' }, true],
    ['a database called db', { DB_HOST: 'other', DB_NAME: 'db' }, false],
    ['another scheme', { URL: 'mysql://u@db/shop' }, false],
    ['the variable of Odoo', { HOST: 'db' }, true],
    ['a word', { STORAGE: 'db', REDIS_HOST: 'db', MYSQL_HOST: 'db' }, false],
    ['a host that only begins so', { PGHOST: 'db2' }, false],
  ] as [string, Record<string, string>, boolean][])('name it as their server: %s', (_, env, isUser) => {
    expect(stopped([container('app', { env })])).toEqual(isUser ? ['app'] : []);
  });

  test('do not mean another container of that name on another network', () => {
    const networks = { other_net: { addresses: ['10.9.0.2'], aliases: ['app'] } };
    expect(stopped([container('app', { env: { PGHOST: 'db' }, networks })])).toEqual([]);
  });

  test('may share a network namespace or the directory of the socket', () => {
    const inside = { networkMode: `container:${db.id}`, networks: {} };
    expect(stopped([container('pooler', inside), container('plain')], [client('127.0.0.1')])).toEqual(['pooler']);
    expect(stopped([container('pooler', inside)])).toEqual([]);
    const run = { type: 'volume', name: 'run', source: '/v/run', writable: true };
    const all = findUsers({
      all: [
        { ...db, mounts: [{ ...run, destination: '/run/postgresql' }] },
        container('local', { mounts: [{ ...run, destination: '/sock' }] }),
        container('plain'),
      ],
      target: target as PostgresSource,
      clients: { clients: [client(null)], socketDirectories: ['/var/run/postgresql'] },
      never: new Set([db.id]),
    });
    expect(all.using.map(({ service }) => service)).toEqual(['local']);
  });

  test('behind a VPN container, only what is configured for the database', () => {
    const inside = { networkMode: 'container:id-vpn', networks: {} };
    const containers = [
      container('vpn', { at: '8' }),
      container('app', { ...inside, env: { PGHOST: 'db' } }),
      container('plain', inside),
    ];
    expect(stopped(containers, [client('10.0.0.8')])).toEqual(['app']);
  });

  test('in a cycle are found once', () => {
    const a = container('a', { needs: 'db,b' });
    const b = container('b', { needs: 'a' });
    expect(stopped([a, b]).sort()).toEqual(['a', 'b']);
  });
});

describe('clients that are not stopped', () => {
  test('are excluded by their label, although they are connected', () => {
    const label = { labels: { 'lifeboat.stop': 'False' } };
    const excluded = [container('reports', { at: '5', ...label }), container('api', { needs: 'db', ...label })];
    expect(find(excluded, [client('10.0.0.5')])).toEqual({
      using: [],
      others: [{ name: 'shop-reports-1', reason: expect.stringContaining('remove the label') }],
    });
  });

  test('ignore a label of the image', () => {
    const labels = { 'lifeboat.stop': 'false' };
    expect(stopped([container('api', { at: '5', labels, imageLabels: labels })], [client('10.0.0.5')])).toEqual([
      'api',
    ]);
  });

  test.each([
    [
      'another project',
      container('web', { at: '5', project: 'blog', name: 'blog-web-1', needs: 'db' }),
      /project blog/,
    ],
    ['no project', container('web', { at: '5', project: '', name: 'adhoc' }), /no Compose project/],
    ['the same service', container('db', { at: '5', id: 'second', name: 'shop-db-2' }), /database service/],
  ])('are containers of %s', (_, other, reason) => {
    expect(find([other], [client('10.0.0.5')])).toEqual({
      using: [],
      others: [{ name: other.name, reason: expect.stringMatching(reason) }],
    });
  });

  test.each([
    [
      'from the host',
      client('10.0.0.1', { application: 'psql' }),
      /^10\.0\.0\.1 \(psql, role app, database shop\)$/,
      /host/,
    ],
    ['inside the container', client(null), /^a client \(app, role app/, /inside shop-db-1/],
    ['over its own address', client('10.0.0.2'), /^a client/, /inside shop-db-1/],
    ['of other roles', client(null, { hidden: true }), /^a client/, /pg_read_all_stats/],
  ])('connect %s', (_, session, name, reason) => {
    expect(find([], [session]).others).toEqual([
      { name: expect.stringMatching(name), reason: expect.stringMatching(reason) },
    ]);
  });

  test('never are Lifeboat, or another server of the same restore', () => {
    const containers = [container('lifeboat', { needs: 'db', at: '3' }), container('db2', { needs: 'db', at: '4' })];
    expect(find(containers, [client('10.0.0.3'), client('10.0.0.4')], ['id-lifeboat', 'id-db2'])).toEqual({
      using: [],
      others: [],
    });
  });
});
