import { readFile, stat, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { plainPaint } from '../../src/report/paint.ts';
import { init } from '../../src/setup/init.ts';
import { renderInit } from '../../src/setup/init-text.ts';
import { interpolate } from '../../src/setup/interpolate.ts';
import { withFiles } from './files.ts';

const SHOP = `# the shop
services:
  db:
    image: postgres:\${PG:-17}   # do not upgrade
    volumes: [db:/var/lib/postgresql/data]
  web:
    image: example/web
    depends_on: [db]
    volumes:
      - media:/app/media
      - ./conf:/etc/app:ro
      - ./data:/data
      - .:/srv/code
      - /etc/localtime:/etc/localtime
      - cache:/app/cache
  worker:
    image: example/web
    profiles: [work]
    volumes:
      - media:/app/media
      - jobs:/jobs
  redis:
    image: redis:7
    volumes: [redis:/data]
  mysql:
    image: mysql:8
    volumes: [mysql:/var/lib/mysql]
volumes:
  db:
  media:
  cache:
  redis:
  jobs:
  mysql:
`;

function run(directory: string, options: Partial<Parameters<typeof init>[0]> = {}) {
  return init({ directory, files: [], image: 'lifeboat:latest', write: false, env: {}, ...options });
}

const labelsOf = (result: Awaited<ReturnType<typeof init>>) =>
  Object.fromEntries(result.labels.map(({ service, labels }) => [service, labels]));

describe('lifeboat init', () => {
  test('proposes a label for each database and each volume, once', async () => {
    const directory = await withFiles({ 'compose.yml': SHOP });
    const result = await run(directory);
    expect(labelsOf(result)).toEqual({
      db: { 'lifeboat.postgres': 'true' },
      web: { 'lifeboat.volumes': 'media,/data' },
      worker: { 'lifeboat.volumes': 'jobs' },
      mysql: { 'lifeboat.volumes': 'mysql', 'lifeboat.stop': 'true' },
    });
    expect(result.sources).toEqual(['db.postgres', 'mysql.mysql', 'web.data', 'web.media', 'worker.jobs']);
    expect(result.leftOut.map(({ service, what }) => `${service} ${what}`)).toEqual([
      'web /srv/code',
      'web cache',
      'redis redis',
    ]);
    expect(result.written).toBe(false);
    expect(await readFile(path.join(directory, 'compose.yml'), 'utf8')).toBe(SHOP);
  });

  test('writes what it shows, keeps comments and the mode, and has nothing to add then', async () => {
    const directory = await withFiles({});
    const file = path.join(directory, 'docker-compose.yml');
    await writeFile(file, SHOP, { mode: 0o640 });
    const result = await run(directory, { write: true });
    expect(result).toMatchObject({ written: true, byHand: [] });
    const text = await readFile(file, 'utf8');
    expect(text).toContain('# do not upgrade');
    expect(result.files[0]?.patch.split('\n').filter((line) => /^-(?!--)/.test(line))).toEqual([]);
    expect((await stat(file)).mode & 0o777).toBe(0o640);
    expect(parse(text).services.lifeboat.image).toBe('lifeboat:latest');
    expect(await run(directory, { write: true })).toMatchObject({ files: [], labels: [], written: false });
  });

  test('reads several files, an override, and what they extend and include', async () => {
    const directory = await withFiles({
      'compose.yaml': 'include: [more/compose.yml]\nservices:\n  web:\n    extends: { file: base.yml, service: app }\n',
      'compose.override.yaml': 'services:\n  web:\n    volumes: [extra:/extra]\nvolumes:\n  extra:\n',
      'base.yml': 'services:\n  app:\n    image: x\n    volumes: [media:/media]\n',
      'more/compose.yml': 'services:\n  db:\n    image: postgres:16\n    volumes: [./pg:/var/lib/postgresql/data]\n',
    });
    const result = await run(directory);
    expect(labelsOf(result)).toEqual({
      web: { 'lifeboat.volumes': 'media,extra' },
      db: { 'lifeboat.postgres': 'true' },
    });
    expect(result.files.map(({ name }) => name).toSorted()).toEqual(['compose.yaml', 'more/compose.yml']);
    const one = await run(directory, { files: ['compose.override.yaml'] });
    expect(labelsOf(one)).toEqual({ web: { 'lifeboat.volumes': 'extra' } });
    const named = await run(directory, { env: { COMPOSE_FILE: 'more/compose.yml' } });
    expect(named.files.map(({ name }) => name)).toEqual(['more/compose.yml']);
  });

  test('follows a symlink to the file, and replaces the file behind it', async () => {
    const directory = await withFiles({ 'real/compose.yml': 'services:\n  db:\n    image: postgres:17\n' });
    await symlink('real/compose.yml', path.join(directory, 'compose.yml'));
    await run(directory, { write: true });
    expect(await readFile(path.join(directory, 'real/compose.yml'), 'utf8')).toContain('lifeboat.postgres');
  });

  test('leaves services with labels alone, and tools that only talk to Postgres', async () => {
    const directory = await withFiles({
      'compose.yml': `services:
  db: { image: ghcr.io/x/postgres@sha256:aa, labels: { lifeboat.postgres: "false" } }
  exporter: { image: prometheuscommunity/postgres-exporter, volumes: ["e:/e"] }
  backup: { image: offen/docker-volume-backup:v2, volumes: ["e:/backup/e:ro"] }
  guard: { image: example/lifeboat:1, environment: { LIFEBOAT_SCHEDULE: "@daily" } }
`,
    });
    const result = await run(directory);
    expect(labelsOf(result)).toEqual({ exporter: { 'lifeboat.volumes': 'e' } });
    expect(result.notes.join('\n')).toMatch(/db has labels[\s\S]*guard is the service/);
    expect(result.leftOut).toEqual([expect.objectContaining({ service: 'backup' })]);
  });

  test('reads a file in which a hundred services use one anchor, and refuses aliases without end', async () => {
    const many = Array.from({ length: 101 }, (_, i) => `  s${i}:\n    <<: *c\n    volumes: ["v${i}:/data"]\n`).join('');
    const large = await withFiles({ 'compose.yml': `x-c: &c\n  image: x\nservices:\n${many}` });
    expect((await run(large)).labels).toHaveLength(101);
    const levels = Array.from({ length: 9 }, (_, i) => `x${i + 1}: &x${i + 1} [${`*x${i},`.repeat(9)}]`).join('\n');
    const bomb = await withFiles({ 'compose.yml': `x0: &x0 [a]\n${levels}\nservices: {}\n` });
    await expect(run(bomb)).rejects.toMatchObject({ code: 'COMPOSE_UNREADABLE' });
  });

  test('says which file could not be written, and which were', async () => {
    // A name so long that no other name fits next to it.
    const long = `more/${'x'.repeat(240)}.yml`;
    const directory = await withFiles({
      'compose.yml': 'services:\n  db:\n    image: postgres:17\n',
      [long]: 'services:\n  web:\n    image: x\n    volumes: [v:/v]\n',
    });
    const files = ['compose.yml', long];
    await expect(run(directory, { files, write: true })).rejects.toMatchObject({
      ...{ code: 'COMPOSE_UNWRITABLE', message: `${long} cannot be written` },
      hint: 'These files are written: compose.yml.',
    });
    expect(await readFile(path.join(directory, long), 'utf8')).not.toContain('lifeboat');
  });

  test('says which services Compose recreates', async () => {
    const directory = await withFiles({ 'compose.yml': 'services:\n  db:\n    image: postgres:17\n' });
    const restart = 'Compose recreates the services whose labels change, so they restart once: db.';
    for (const write of [false, true]) {
      expect(renderInit(await run(directory, { write }), plainPaint)).toContain(restart);
    }
    expect(renderInit(await run(directory), plainPaint)).not.toContain('restart');
  });

  test('shows what it cannot write', async () => {
    const directory = await withFiles({
      'compose.yml': 'x-d: &d\n  image: postgres:17\nservices:\n  db: *d\n  web:\n    image: x\n',
    });
    const { byHand } = await run(directory);
    expect(byHand).toEqual([{ service: 'db', lines: ['labels:', '  lifeboat.postgres: "true"'] }]);
  });

  test.each([
    ['no file', {}, 'there is no Compose file'],
    ['a mistake in YAML', { 'compose.yml': 'services:\n  a: [\n' }, 'cannot be read'],
    ['a list', { 'compose.yml': '- a\n' }, 'cannot be read'],
    [
      'a missing base',
      { 'compose.yml': 'services:\n  a:\n    extends: { file: no.yml, service: b }\n' },
      'cannot be read',
    ],
  ])('refuses %s', async (_, files, message) => {
    const directory = await withFiles(files as Record<string, string>);
    await expect(run(directory)).rejects.toMatchObject({
      code: 'COMPOSE_UNREADABLE',
      message: expect.stringContaining(message),
    });
  });

  test('offers the mount that a container without the project lacks', async () => {
    await expect(run(await withFiles({}))).rejects.toMatchObject({
      hint: expect.stringContaining('`docker run --rm -v ./:/project lifeboat init`'),
    });
  });

  test('ends for services that extend each other in a circle, and for hostile values', async () => {
    const directory = await withFiles({
      'compose.yml': `services:
  a: { extends: b, volumes: [1, null, "", ":", "x", { type: 7 }, "v:/v:rw,z"] }
  b: { extends: { service: a }, labels: [1, null] }
  c: 5
`,
    });
    expect(labelsOf(await run(directory))).toEqual({ a: { 'lifeboat.volumes': 'v' } });
  });
});

describe('variables', () => {
  test.each([
    [`$A/\${A}`, '1/1'],
    [`\${B:-x}\${B-y}\${C:-z}`, 'xz'],
    [`\${A:+yes}\${C:+no}`, 'yes'],
    [`\${C:-\${B:-\${A}}}`, '1'],
    [`\${C:-$A}:\${C:-x$B$A}`, '1:x1'],
    [`$$A $\${A}`, `$A \${A}`],
    [`\${D}`, `\${A}`],
    [`\${unclosed`, `\${unclosed`],
    [`\${__proto__}`, ''],
  ])('%s', (text, expected) => {
    expect(interpolate(text, { A: '1', B: '', D: `\${A}` })).toBe(expected);
  });
});
