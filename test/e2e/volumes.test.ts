import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunReport } from '../../src/report/events.ts';
import { holder, Stack } from '../harness/stack.ts';

/**
 * Lists entries below a directory of a container with type, mode, owner, size, mtime to the nanosecond, links and
 * content.
 */
async function manifest(stack: Stack, service: string, directory: string): Promise<string[]> {
  const script = `cd ${directory} && find . -printf '%p %y %m %U %G %T@ %l %n ' \\( -type d -printf '-\\n' -o -printf '%s\\n' \\) && find . -type f -exec sha256sum {} +`;
  return (await stack.exec(service, ['sh', '-c', script])).split('\n').sort();
}

/** A tree with every property that a restore must preserve. */
const MAKE_TREE = `
  set -e; cd "$0"
  mkdir -p photos/2024 empty deep/a/b/c
  head -c 200000 /dev/urandom > photos/2024/one.jpg
  head -c 3000000 /dev/zero > photos/zeros
  printf 'same' > photos/same-1; cp photos/same-1 photos/same-2
  : > photos/nothing
  ln photos/2024/one.jpg deep/a/hard
  ln -s ../photos/2024/one.jpg deep/link; ln -s /nowhere deep/dangling; ln -s photos linked-directory
  printf x > "$(printf 'new\\nline')"; printf x > 'quote"s and $(sh) \\ back'; printf x > "$(printf 'latin\\351')"; printf x > -rf
  printf x > "$(head -c 255 /dev/zero | tr '\\0' n)"
  chown 1234:55 photos/2024 photos/2024/one.jpg; chown -h 7:8 deep/link
  chmod 0400 photos/same-1; chmod 4755 photos/same-2; chmod 1777 empty; chmod 0000 photos/nothing
  touch -d '2001-02-03 04:05:06.123456789' photos/2024/one.jpg; touch -h -d '1969-12-31 00:00:00.5' deep/link
  touch -d '2030-01-01 00:00:00.000000001' empty; touch -d '1999-09-09 09:09:09.9' photos; chown 33:33 .; chmod 2775 .
  touch -d '2010-10-10 10:10:10.101010101' .
`;

/** Files that change all the time, with text and no zero bytes. */
const NEVER_AT_REST = `
  const fs = require('node:fs');
  fs.writeFileSync('/data/changes', 'x'.repeat(64 << 20));
  const changes = fs.openSync('/data/changes', 'r+');
  fs.writeFileSync('/data/grows', '');
  const { DatabaseSync } = require('node:sqlite');
  const databases = [['app.db', 'wal'], ['jobs', 'delete']].map(([name, mode]) => {
    const database = new DatabaseSync('/data/' + name, { timeout: 20000 });
    database.exec('PRAGMA synchronous = OFF; PRAGMA journal_mode = ' + mode + '; CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)');
    database.exec('CREATE INDEX i ON t (a); BEGIN');
    for (let i = 0; i < 20000; i++) database.exec('INSERT INTO t (a, b) VALUES (random(), hex(randomblob(150)))');
    database.exec('COMMIT');
    return database;
  });
  let n = 0;
  setInterval(() => {
    n += 1;
    for (const database of databases) {
      database.exec('BEGIN IMMEDIATE; UPDATE t SET a = random(), b = hex(randomblob(150)) WHERE id % 500 = ' + (n % 500) + '; COMMIT');
    }
    fs.writeSync(changes, String(n % 10), Math.floor(Math.random() * (64 << 20)));
    fs.appendFileSync('/data/grows', 'line ' + n + '\\n');
    fs.writeFileSync('/data/vanishes-' + (n % 50), 'here ' + n);
    fs.rmSync('/data/vanishes-' + ((n + 25) % 50), { force: true });
    if (n % 10 === 0) fs.writeFileSync('/data/shrinks', 'x'.repeat(1 + ((n * 7919) % 3000000)));
  }, 2);
`;

/** An exclusively locked database of 80 MB that is written to all the time. */
const LOCKED = `
  const { DatabaseSync } = require('node:sqlite');
  const database = new DatabaseSync('locked');
  database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = OFF; CREATE TABLE t (id INTEGER PRIMARY KEY, a)');
  database.exec('INSERT INTO t VALUES (1, 0), (2, zeroblob(80000000))');
  require('node:fs').writeFileSync('ready', 'yes');
  setInterval(() => database.exec('UPDATE t SET a = a + 1 WHERE id = 1'), 1);
`;

describe('volumes of services', () => {
  let stack: Stack;
  const trees = [
    { source: 'web.media', service: 'web', directory: '/media' },
    { source: 'web.inplace', service: 'web', directory: '/inplace' },
    { source: 'web.bind', service: 'web', directory: '/bind' },
    { source: 'all.first', service: 'all', directory: '/first' },
    { source: 'all.second', service: 'all', directory: '/second' },
  ];
  const before = new Map<string, string[]>();
  let report: RunReport;
  let plan: string;

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        // A helper reads the first volume and the bind; the agent mounts the second volume.
        web: holder(['media:/media', 'inplace:/inplace', './bind:/bind', 'other:/other'], {
          'lifeboat.volumes': 'media, inplace, /bind',
        }),
        all: holder(['first:/first', 'second:/second'], { 'lifeboat.volumes': 'true' }),
        picked: holder(['picked:/picked'], {
          'lifeboat.volumes': '/picked',
          'lifeboat.volumes.include': 'keep/**',
          'lifeboat.volumes.exclude': '**/*.tmp',
        }),
        live: {
          ...holder(['live:/data'], { 'lifeboat.volumes': 'live' }),
          command: ['node', '-e', NEVER_AT_REST.replaceAll('$', '$$$$')],
        },
      },
      volumes: Object.fromEntries(
        ['media', 'inplace', 'other', 'first', 'second', 'picked', 'live', 'restored'].map((name) => [name, {}]),
      ),
      agent: { volumes: ['inplace:/sources/inplace', './config:/config:ro', 'restored:/restored'] },
    });
    await writeFile(path.join(stack.directory, 'config', '.env'), 'SECRET=canary-config\n', { mode: 0o640 });
    for (const { service, directory } of trees) await stack.exec(service, ['sh', '-c', MAKE_TREE, directory]);
    await stack.exec('picked', [
      ...['sh', '-c'],
      'cd /picked && mkdir -p keep/sub drop && touch keep/a keep/b.tmp keep/sub/c drop/d e && echo x > keep/a && echo y > keep/sub/c',
    ]);
    await stack.exec('live', [
      'sh',
      '-c',
      `cd /data && mkfifo fifo && mknod device c 1 3 && echo no one > sealed && chmod 000 sealed
       printf begin > sparse && truncate -s 300M sparse && printf end >> sparse &&
       printf begin > huge && truncate -s 300G huge && printf end >> huge && echo twice > link-1 && ln link-1 link-2
       node -e "require('node:net').createServer().listen('/data/socket', () => process.kill(process.pid, 'SIGKILL'))"; test -S socket`,
    ]);
    for (const { source, service, directory } of trees) before.set(source, await manifest(stack, service, directory));
    plan = (await stack.lifeboat('plan')).stdout;
    const ran = await stack.backup();
    report = ran.report;
    await stack.compose('kill', 'live');
    expect({ code: ran.code, status: report.status }, JSON.stringify(report, null, 1) + ran.stderr).toEqual({
      code: 0,
      status: 'ok',
    });
  });
  afterAll(() => stack?.destroy());

  it('are exactly the selected ones, and the mounts under /config', async () => {
    expect(report.results.map(({ name }) => name).sort()).toEqual([
      'all.first',
      'all.second',
      'config',
      'live.live',
      'picked.picked',
      'web.bind',
      'web.inplace',
      'web.media',
    ]);
    expect(await stack.helpers()).toEqual([]);
  });

  it.each(trees)('$source is restored unchanged: owners, modes, times, links, names, content', async (tree) => {
    const { source, service, directory } = tree;
    const refused = await stack.lifeboat('restore', 'latest', source);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('NOT_CONFIRMED');
    expect(await manifest(stack, service, directory)).toEqual(before.get(source));

    await stack.exec(service, [
      'sh',
      '-c',
      `cd ${directory} && find . -mindepth 1 -delete && chmod 700 . && chown 0:0 .`,
    ]);
    const restored = await stack.lifeboat('restore', 'latest', source);
    expect(restored.code, restored.stderr).toBe(0);
    expect(await manifest(stack, service, directory)).toEqual(before.get(source));
  });

  it('a tree can be restored to a directory too, unless that is not empty', async () => {
    const { source } = trees[0]!;
    const restore = () => stack.lifeboat('restore', 'latest', source, '--to-directory', '/restored/here');
    const restored = await restore();
    expect(restored.code, restored.stderr).toBe(0);
    expect(await manifest(stack, 'lifeboat', '/restored/here')).toEqual(before.get(source));
    const again = await restore();
    expect(again.code).toBe(1);
    expect(again.stderr).toContain('TREE_TARGET_NOT_EMPTY');
  });

  it('include and exclude choose files', async () => {
    const { files } = await stack.json<{ files: { path: string; type: string }[] }>('show', 'latest', 'picked.picked');
    expect(files.filter(({ type }) => type === 'file').map(({ path: name }) => name)).toEqual(['keep/a', 'keep/sub/c']);
  });

  it('files under /config are a source without any label', async () => {
    const restored = await stack.lifeboat('restore', 'latest', 'config', '--to-directory', '/restored/config');
    expect(restored.code, restored.stderr).toBe(0);
    expect(
      await stack.exec('lifeboat', ['sh', '-c', 'cat /restored/config/.env; stat -c %a /restored/config/.env']),
    ).toBe('SECRET=canary-config\n640\n');
  });

  it('a volume in use is stored without zeros, changing files are flagged, and entries without content are counted', async () => {
    const live = report.results.find(({ name }) => name === 'live.live');
    expect(live?.status).toBe('ok');
    const warnings = live?.warnings.join('\n');
    expect(plan).toContain('2 SQLite databases (app.db, jobs): copied while in use');
    expect(live?.summary).toMatch(/ files, 2 SQLite databases$/);
    expect(warnings).toMatch(/1 FIFO/);
    expect(warnings).toMatch(/1 socket/);
    expect(warnings).toMatch(/1 character device/);
    expect(warnings).toMatch(/kept changing while being read: .*changes.*lifeboat\.stop/);
    expect(warnings).not.toMatch(/app\.db|jobs/);

    const restored = await stack.lifeboat('restore', 'latest', 'live.live', '--to-directory', '/restored/live');
    expect(restored.code, restored.stderr).toBe(0);
    const script = `cd /restored/live
      for f in fifo socket device; do test ! -e $f || echo "$f is there"; done
      stat -c '%a %s' sealed && cat sealed && stat -c %h link-1 && cmp link-1 link-2
      head -c 5 sparse && tail -c 3 sparse && stat -c ' %s' sparse && test $(du -k sparse | cut -f1) -lt 1000 && echo holes
      head -c 5 huge && tail -c 3 huge && stat -c ' %s' huge && test $(du -k huge | cut -f1) -lt 1000 && echo holes
      tr -d 'x' < shrinks | wc -c
      stat -c %s changes; tr -d 'x0-9' < changes | wc -c
      node -e "
        const lines = require('node:fs').readFileSync('grows', 'utf8').split('\\n').slice(0, -1);
        console.log(lines.length > 0 && lines.every((line, i) => line === 'line ' + (i + 1)));
        const here = require('node:fs').readdirSync('.').filter((name) => name.startsWith('vanishes-'));
        const { DatabaseSync } = require('node:sqlite');
        for (const name of ['app.db', 'jobs']) {
          const database = new DatabaseSync(name);
          console.log(...['PRAGMA integrity_check', 'SELECT count(*) FROM t'].map((sql) => Object.values(database.prepare(sql).get()).join()));
          database.close();
        }
        console.log(require('node:fs').readdirSync('.').filter((name) => /-(wal|shm|journal)$/.test(name)).join());
        console.log(here.every((name) => /^(here [0-9]+)?$/.test(require('node:fs').readFileSync(name, 'utf8'))));
      "`;
    expect((await stack.exec('lifeboat', ['sh', '-c', script])).split('\n')).toEqual([
      ...['0 7', 'no one', '2'],
      ...['beginend 314572803', 'holes'],
      ...['beginend 322122547203', 'holes'],
      '0',
      ...['67108864', '0'],
      ...['true', 'ok 20000', 'ok 20000', '', 'true', ''],
    ]);
  });

  it('a locked SQLite database that is written to all the time is named, and everything else is stored', async () => {
    await stack.exec('picked', [
      'sh',
      '-c',
      `cd /picked/keep && (node -e "$0" > /tmp/log 2>&1 &) && until test -s ready; do sleep 0.1; done`,
      LOCKED,
    ]);
    const ran = await stack.backup('picked.picked');
    expect(ran.code, ran.stderr).toBe(3);
    const [result] = ran.report.results;
    expect(result).toMatchObject({ status: 'partial', error: { code: 'SQLITE_TORN' } });
    expect(result?.files).toBeGreaterThanOrEqual(4);
    expect(result?.error?.message).toMatch(/^1 SQLite database of picked.picked may be unusable: keep\/locked \(/);
    expect(result?.error?.hint).toContain('lifeboat.stop: "true"');
  });
});
