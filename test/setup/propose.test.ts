import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { init } from '../../src/setup/init.ts';
import { withFiles } from './files.ts';

/** The labels that `lifeboat init` proposes for services, without the dots: `db: postgres`, `web: volumes=media stop`. */
async function propose(
  services: string,
  more: { files?: Record<string, string>; empty?: string[]; top?: string } = {},
) {
  const { files = {}, empty = [], top = '' } = more;
  const directory = await withFiles({ 'compose.yml': `services:\n${services}${top}`, ...files });
  for (const name of empty) await mkdir(path.join(directory, name), { recursive: true });
  const result = await init({ directory, files: [], image: 'lifeboat:latest', write: false, env: {} });
  const labels = result.labels.map(({ service, labels: own }) => {
    const words = Object.entries(own).map(([key, value]) => {
      const name = key.slice('lifeboat.'.length);
      return value === 'true' ? name : `${name}=${value}`;
    });
    return `${service}: ${words.join(' ')}`;
  });
  const leftOut = result.leftOut.map(({ service, what, why }) => `${service} ${what} ${why}`);
  return { ...result, labels, leftOut };
}

describe('a volume with labels already', () => {
  const MASTODON = `  web:
    image: mastodon
    volumes: [./public/system:/mastodon/public/system, ./other:/other]
    labels: { lifeboat.volumes: /mastodon/public/system, lifeboat.volumes.exclude: cache/ }
  sidekiq:
    image: mastodon
    volumes: [./public/system:/mastodon/public/system, ./other:/other, ./public/system/more:/more]
`;

  test('gets no label of another service, which would be a second source', async () => {
    const { labels, leftOut } = await propose(MASTODON);
    expect(labels).toEqual([]);
    expect(leftOut).toEqual(['web /other is not in lifeboat.volumes of web']);
  });

  test('after a run of init, a second one has nothing to add', async () => {
    const directory = await withFiles({
      'compose.yml': `services:
  web: { image: x, volumes: ["media:/media"] }
  worker: { image: x, volumes: ["media:/media"] }
`,
    });
    const run = () => init({ directory, files: [], image: 'lifeboat:latest', write: true, env: {} });
    expect((await run()).labels.map(({ service }) => service)).toEqual(['web']);
    expect(await run()).toMatchObject({ files: [], labels: [], written: false });
  });

  test('a service that only has commands, or only reads a volume, decides nothing about volumes', async () => {
    const { labels } = await propose(`  proxy: { image: x, volumes: ["media:/m"], labels: { lifeboat.stop: "false" } }
  reader: { image: x, volumes: ["media:/m:ro", "own:/o"], labels: { lifeboat.volumes: own } }
  web: { image: x, volumes: ["media:/m"] }
`);
    expect(labels).toEqual(['web: volumes=media']);
  });
});

describe('the service that gets the label of a volume', () => {
  test('is one that always runs', async () => {
    const { labels, notes } = await propose(`  tools: { image: x, profiles: [tools], volumes: ["media:/m", "own:/o"] }
  none: { image: x, deploy: { replicas: 0 }, volumes: ["media:/m"] }
  migrate: { image: x, volumes: ["media:/m"] }
  web:
    image: x
    volumes: ["media:/m"]
    depends_on: { migrate: { condition: service_completed_successfully } }
`);
    expect(labels).toEqual(['tools: volumes=own', 'web: volumes=media']);
    expect(notes.join('\n')).toMatch(/^tools has no container after `docker compose up`/m);
  });

  test('may have a profile that the project uses', async () => {
    const { labels, notes } = await propose('  tools: { image: x, profiles: [tools], volumes: ["own:/o"] }\n', {
      files: { '.env': 'COMPOSE_PROFILES=a,tools\n' },
    });
    expect(labels).toEqual(['tools: volumes=own']);
    expect(notes).toEqual([]);
  });
});

describe('a Postgres server', () => {
  test.each([
    ['an own image', 'build: ./db, image: acme/shop-db, volumes: ["pg:/var/lib/postgresql/data"]', 'postgres'],
    ['without an image', 'build: ./db, volumes: ["pg:/var/lib/postgresql"]', 'postgres'],
    ['pgautoupgrade', 'image: "pgautoupgrade/pgautoupgrade:17-alpine", volumes: ["pg:/pg"]', 'postgres'],
    ['of Percona', 'image: "percona/percona-distribution-postgresql:17", volumes: ["pg:/data/db"]', 'postgres'],
    [
      'of Timescale',
      'image: "timescale/timescaledb-ha:pg17", volumes: ["ts:/home/postgres/pgdata/data", "t:/t"]',
      'postgres volumes=t',
    ],
    [
      'PGDATA',
      'image: acme/db, environment: { PGDATA: /srv/a/b/c }, volumes: ["pg:/srv/a", "t:/t"]',
      'postgres volumes=t',
    ],
    [
      'command',
      'image: acme/db, command: postgres -D /srv/pg/17, volumes: ["pg:/srv/pg", "t:/t"]',
      'postgres volumes=t',
    ],
    ['a volume above', 'image: "postgres:17", volumes: ["all:/var/lib"]', 'postgres'],
    ['none: a home', 'build: ., volumes: ["home:/home"]', 'volumes=home'],
    ['none: a directory of Bitnami', 'build: ., volumes: ["b:/bitnami"]', 'volumes=b'],
    ['none: it only reads', 'image: acme/reader, volumes: ["pg:/var/lib/postgresql/data:ro", "t:/t"]', 'volumes=t'],
    ['none: a script', 'image: "postgres:17", entrypoint: [sh, /dump.sh], volumes: ["out:/out"]', 'volumes=out'],
    ['none: psql', 'image: "postgres:17", command: psql -h db -U postgres, volumes: ["out:/out"]', 'volumes=out'],
    ['a shell', `image: "postgres:17", command: sh -c "exec docker-entrypoint.sh postgres -p 5433"`, 'postgres'],
  ])('%s', async (_, body, expected) => {
    expect((await propose(`  db: { ${body} }\n`)).labels).toEqual([`db: ${expected}`]);
  });

  test('whose files may be anywhere has no volume that is copied while it runs', async () => {
    const { labels, leftOut } = await propose(`  db:
    image: postgres:17
    env_file: db.env
    volumes: ["pg:/pgdata", "./init:/docker-entrypoint-initdb.d"]
  web: { image: x, volumes: ["pg:/pg"] }
`);
    expect(labels).toEqual(['db: postgres']);
    expect(leftOut).toEqual(['db pg may hold the files of the database. If it does not, name it in lifeboat.volumes']);
  });

  test('owns its volume, whichever service comes first, and only one server has a volume', async () => {
    const { labels } = await propose(`  fix-perms: { image: busybox, volumes: ["pg:/pgdata", "t:/t"] }
  own: { image: busybox, volumes: ["pg:/var/lib/postgresql/data"] }
  upgrade: { image: pgautoupgrade/pgautoupgrade, restart: "no", volumes: ["pg:/var/lib/postgresql/data"] }
  db: { image: "postgres:17", volumes: ["pg:/var/lib/postgresql/data"] }
`);
    expect(labels).toEqual(['fix-perms: volumes=t', 'db: postgres']);
  });

  test('keeps a directory around its files from being copied', async () => {
    const { labels, leftOut } = await propose(`  web: { image: x, volumes: ["./data:/data"] }
  db: { image: "postgres:17", volumes: ["./data/pg:/var/lib/postgresql/data"] }
`);
    expect(labels).toEqual(['db: postgres']);
    expect(leftOut[0]).toContain('web /data holds the database of db');
  });
});

test.each([
  ['image: acme/shop-mysql, volumes: ["d:/d"]', 'volumes=d stop'],
  ['image: mcr.microsoft.com/mssql/server, volumes: ["d:/d"]', 'volumes=d stop'],
  ['build: ., volumes: ["d:/var/lib/mysql", "e:/e"]', 'volumes=d,e stop'],
  ['build: ., volumes: ["d:/data/db"]', 'volumes=d stop'],
  ['build: ., volumes: ["d:/var/opt/mssql/data"]', 'volumes=d stop'],
  ['image: prom/mysqld-exporter, volumes: ["e:/e"]', 'volumes=e'],
])('another database: %s', async (body, expected) => {
  const { labels } = await propose(`  chown: { image: busybox, volumes: ["d:/var/lib/mysql"] }\n  db: { ${body} }\n`);
  expect(labels.filter((one) => one.startsWith('db'))).toEqual([`db: ${expected}`]);
});

test('a program that only uses MySQL has the name of it too, and is no server', async () => {
  const { labels, notes } = await propose(`  server: { image: zabbix/zabbix-server-mysql, volumes: ["export:/e"] }
  prepare: { image: busybox, volumes: ["data:/data"] }
  db: { image: "mysql:8.4", volumes: ["data:/var/lib/mysql"] }
`);
  expect(labels).toEqual(['server: volumes=export', 'db: volumes=data stop']);
  expect(notes).toEqual([]);
});

describe('an external volume', () => {
  test.each([
    ['external: true', 'data'],
    ['external: true, name: acme-media', '/d'],
    ['external: { name: acme-media }', '/d'],
    ['external: true, name: data', 'data'],
    ['name: acme-media', 'data'],
  ])('%s', async (body, expected) => {
    const { labels } = await propose('  web: { image: x, volumes: ["data:/d"] }\n', {
      top: `volumes:\n  data: { ${body} }\n`,
    });
    expect(labels).toEqual([`web: volumes=${expected}`]);
  });
});

describe('directories', () => {
  test('that are empty get no label, if the project directory holds them', async () => {
    const { labels, leftOut } = await propose('  web: { image: x, volumes: ["./a:/a", "./b:/b", "./new:/new"] }\n', {
      files: { 'b/file': '' },
      empty: ['a'],
    });
    expect(labels).toEqual(['web: volumes=/b,/new']);
    expect(leftOut).toEqual(['web /a is empty. Files that come later are backed up as `config`']);
  });

  test.each([
    ['nothing is there', '', {}, [], './backups'],
    ['it is empty', '', {}, ['backups'], './backups'],
    ['it holds a repository', '', { 'backups/lifeboat.json': '{}' }, [], './backups'],
    ['it holds dumps', '', { 'backups/a.sql': '' }, [], './lifeboat-backups'],
    ['a service uses it', ', "./backups:/dumps"', {}, [], './lifeboat-backups'],
    ['both are in use', ', "./backups:/dumps"', { 'lifeboat-backups/x': '' }, [], './lifeboat-repository'],
  ])('the one for backups, if %s', async (_, volumes, files, empty, expected) => {
    const {
      files: changed,
      labels,
      leftOut,
    } = await propose(`  db: { image: "postgres:17", volumes: ["pg:/var/lib/postgresql/data"${volumes}] }\n`, {
      files,
      empty,
    });
    expect(changed[0]?.patch).toContain(`+      - ${expected}:/backups `);
    expect(labels).toEqual(['db: postgres']);
    expect(leftOut.every((one) => one.includes('looks like backups'))).toBe(true);
  });
});

test.each([
  ['/etc/pihole/', 'volumes=/etc/pihole'],
  ['/data/', 'volumes=/data'],
])('a path with a slash at the end, %s, gets the name that the engine reports', async (target, expected) => {
  const { labels, notes } = await propose(`  web: { image: x, volumes: ["./in:${target}"] }\n`);
  expect(labels).toEqual([`web: ${expected}`]);
  expect(notes).toEqual([]);
});

test.each([
  ['/dev/dri:/dev/dri', ''],
  ['/sys/class:/sys/class', ''],
  ['/:/host', ''],
  ['/lib/modules:/lib/modules', "web /lib/modules is of the host's system"],
  ['/usr/src:/usr/src', "web /usr/src is of the host's system"],
  ['/tmp/.X11-unix:/tmp/.X11-unix', 'web /tmp/.X11-unix looks like data that the application makes again'],
  ['socket:/var/run/app', 'web socket looks like data that the application makes again'],
  ['/srv/init:/docker-entrypoint-initdb.d', 'web /docker-entrypoint-initdb.d holds scripts for the first start'],
  [':/upload', 'web /upload is a volume without a name, or its variable is not set'],
])('%s gets no label', async (mount, why) => {
  const { labels, leftOut, notes } = await propose(`  web: { image: x, volumes: ["${mount}", "t:/t"] }\n`);
  expect(labels).toEqual(['web: volumes=t']);
  expect(leftOut.join()).toMatch(why === '' ? /^$/ : new RegExp(`^${why}`));
  expect(notes).toEqual([]);
});

test('what a plan finds wrong is a note', async () => {
  const { notes } = await propose(`  web: { image: x, volumes: ["media:/m"], labels: { lifeboat.volume: media } }\n`);
  expect(notes.join('\n')).toMatch(/^web: unknown label .* \(LABEL_UNKNOWN\): did you mean lifeboat\.volumes/m);
});

describe('Compose files elsewhere', () => {
  const run = (directory: string, files: string[]) =>
    init({ directory, files, image: 'lifeboat:latest', write: false, env: {} });

  test('have the directory of the first one as project directory', async () => {
    const directory = await withFiles({
      '.env': 'NAME=wrong\n',
      'deploy/.env': 'NAME=media\n',
      'deploy/compose.yml': `services:\n  web: { image: x, volumes: ["..:/srv/app", "\${NAME}:/m", "./in:/in"] }\n`,
      'deploy/more/prod.yml': 'services:\n  web:\n    volumes: [".:/project", "./in2:/in2"]\n',
    });
    const result = await run(directory, ['deploy/compose.yml', 'deploy/more/prod.yml']);
    expect(result.labels).toEqual([{ service: 'web', labels: { 'lifeboat.volumes': 'media,/in,/in2' } }]);
    expect(result.leftOut.map(({ what }) => what)).toEqual(['/srv/app', '/project']);
    expect(result.next[0]).toBe('docker compose -f deploy/compose.yml -f deploy/more/prod.yml up -d');
  });

  test('that are included have their own directory, or project_directory', async () => {
    const directory = await withFiles({
      'compose.yml': `include:
  - path: [a/one.yml, b/two.yml]
  - { path: c/three.yml, project_directory: d }
services: { web: { image: x } }
`,
      'a/one.yml': 'services: { one: { image: x, volumes: ["./v:/one"] } }\n',
      'b/two.yml': 'services: { two: { image: x, volumes: ["./v:/two"] } }\n',
      'c/three.yml': 'services: { three: { image: x, volumes: ["./v:/three"] } }\n',
      'd/v/file': '',
    });
    await mkdir(path.join(directory, 'a/v'));
    const { labels, leftOut } = await run(directory, []);
    expect(leftOut.map(({ what }) => what)).toEqual(['/one']);
    expect(labels.map(({ service }) => service)).toEqual(['three']);
  });
});

test('!override and !reset replace what earlier files say', async () => {
  const directory = await withFiles({
    'compose.yml': `services:
  web: { image: x, volumes: ["a:/a"], labels: { x: "1" } }
  gone: { image: x, volumes: ["g:/g"] }
  none: { image: x, volumes: ["n:/n"] }
  db: { image: "postgres:17", volumes: ["pg:/var/lib/postgresql/data"] }
`,
    'compose.override.yml': `services:
  web:
    volumes: !override ["b:/b"]
    labels: !override
      y: "2"
  gone: !reset null
  none:
    volumes: !reset []
  db: !override
    image: example/app
    volumes: ["c:/c"]
`,
  });
  const { labels, files } = await init({ directory, files: [], image: 'x', write: false, env: {} });
  expect(labels).toEqual([
    { service: 'web', labels: { 'lifeboat.volumes': 'b' } },
    { service: 'db', labels: { 'lifeboat.volumes': 'c' } },
  ]);
  expect(files.find(({ name }) => name === 'compose.override.yml')?.patch).toMatch(/\+ +lifeboat.volumes: "b"/);
});

describe('what Lifeboat cannot write', () => {
  test('is a whole fragment of a Compose file, for its own service', async () => {
    const directory = await withFiles({ 'compose.yml': 'services: { db: { image: "postgres:17" } }\n' });
    const { byHand } = await init({ directory, files: [], image: 'lifeboat:latest', write: false, env: {} });
    const fragment = parse(byHand.at(-1)?.lines.join('\n') ?? '');
    expect(fragment.services.lifeboat.image).toBe('lifeboat:latest');
    expect(fragment.volumes).toEqual({ 'lifeboat-spool': null });
  });
});

test('the commands to continue with name the service of Lifeboat', async () => {
  const { next } = await propose('  backup: { image: example/lifeboat }\n  db: { image: "postgres:17" }\n');
  expect(next[1]).toBe('docker compose exec backup lifeboat plan');
});
