import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { withCompanions } from '../../../../src/restore/paths.ts';
import { compareTree } from '../../../../src/store/content/compare-tree.ts';
import { measureTree } from '../../../../src/store/content/measure-tree.ts';
import type { StoredTree } from '../../../../src/store/content/stored-tree.ts';
import { selectByGlobs } from '../../../../src/store/filesystem/glob.ts';
import * as mountPoint from '../../../../src/store/filesystem/mount-point.ts';
import { readIndexFileLines } from '../../../../src/store/filesystem/read-index.ts';
import { SqliteCopies } from '../../../../src/store/sqlite/sqlite-copies.ts';
import * as sqliteCopy from '../../../../src/store/sqlite/sqlite-copy.ts';
import { isCompanion } from '../../../../src/store/sqlite/sqlite-file.ts';
import { SqliteProcess } from '../../../../src/store/sqlite/sqlite-process.ts';
import { createVolumeBench, SECOND } from '../../exchange/volume-bench.ts';
import { type Bench, createBench } from '../../helpers.ts';

let bench: Bench;
const writers: ChildProcess[] = [];
beforeEach(() => {
  bench = createBench();
});
afterEach(async () => {
  vi.restoreAllMocks();
  for (const writer of writers.splice(0)) await kill(writer);
  bench.remove();
});

const ACCOUNTS = 4000;

/** An application that writes all the time. Resolves once it has started to write. */
async function startWriter(name: string, mode: string, ...pragmas: string[]): Promise<ChildProcess> {
  const program = join(import.meta.dirname, '../../../harness/sqlite-writer.mjs');
  const args = ['--disable-warning=ExperimentalWarning', program, join(bench.tree, name), mode, `${ACCOUNTS}`];
  const writer = spawn(process.execPath, [...args, ...pragmas], { stdio: ['ignore', 'pipe', 'inherit'] });
  writers.push(writer);
  await once(writer.stdout as NodeJS.ReadableStream, 'data');
  return writer;
}

async function kill(writer: ChildProcess): Promise<void> {
  if (writer.exitCode !== null || writer.signalCode !== null) return;
  const ended = once(writer, 'exit');
  writer.kill('SIGKILL');
  await ended;
}

const storing = () => ({ spool: bench.spool });

/** Returns the content of a restored database, as the application would read it. */
function lookInto(file: string) {
  const database = new DatabaseSync(file);
  try {
    const integrity = database
      .prepare('PRAGMA integrity_check')
      .all()
      .map((row) => row.integrity_check);
    const totals = database.prepare('SELECT count(*) AS accounts, sum(money) AS total FROM account').get();
    return { integrity, ...totals };
  } finally {
    database.close();
  }
}

const SOUND = { integrity: ['ok'], accounts: ACCOUNTS, total: ACCOUNTS * 1000 };

describe('an SQLite database that is written to all the time', () => {
  test.each([
    ['with a log', 'wal'],
    ['with a log that begins again all the time', 'wal', 'wal_autocheckpoint=20'],
    ['with a journal that is deleted', 'delete'],
    ['with a journal that is emptied', 'truncate'],
    ['with a journal that stays', 'persist'],
  ])('is stored as it was at one moment, %s', async (_, mode, ...pragmas) => {
    await startWriter('app.data', mode, ...pragmas);
    for (let round = 0; round < 2; round++) {
      const stored = await bench.store(storing());
      expect(stored).toMatchObject({ databases: 1, torn: [], damaged: [], noted: [], changedCount: 0, files: 1 });
      const { target } = await bench.extract(stored);
      expect(lookInto(join(target, 'app.data'))).toEqual(SOUND);
    }
  });
});

/**
 * An application in the middle of a transaction without a journal on disk. Some of its pages are already in the file.
 */
async function startHalf(name: string, mode: string): Promise<ChildProcess> {
  const program = `
    const database = new (require('node:sqlite').DatabaseSync)(process.argv[1], { defensive: false });
    database.exec('PRAGMA journal_mode = ${mode}; PRAGMA cache_size = 5; CREATE TABLE account (id INTEGER PRIMARY KEY, money, filler)');
    const insert = database.prepare('INSERT INTO account (money, filler) VALUES (1000, zeroblob(500))');
    database.exec('BEGIN');
    for (let i = 0; i < ${ACCOUNTS}; i++) insert.run();
    database.exec('COMMIT; BEGIN; UPDATE account SET money = 0');
    process.stdin.once('data', () => {
      database.exec('UPDATE account SET money = 1000; COMMIT');
      process.stdin.on('data', () => {});
    });
    console.log('ready');`;
  const args = ['--disable-warning=ExperimentalWarning', '-e', program, join(bench.tree, name)];
  const writer = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  writers.push(writer);
  await once(writer.stdout as NodeJS.ReadableStream, 'data');
  return writer;
}

describe('an SQLite database in the middle of a transaction that only the application can undo', () => {
  test('is torn', async () => {
    await startHalf('app.db', 'memory');
    const stored = await bench.storeAfterTick(storing());
    expect(stored).toMatchObject({ databases: 0, tornCount: 1, torn: [{ path: 'app.db' }] });
    expect(stored.torn[0]?.message).toContain('a transaction may be under way');
  });

  test('is waited for', async () => {
    const writer = await startHalf('app.db', 'off');
    const { ask } = SqliteProcess.prototype;
    vi.spyOn(SqliteProcess.prototype, 'ask').mockImplementation(function (this: SqliteProcess, request, patience) {
      if (request.kind === 'hold') writer.stdin?.write('go on\n');
      return ask.call(this, request, patience);
    });
    const stored = await bench.storeAfterTick(storing());
    expect(stored).toMatchObject({ databases: 1, torn: [], damaged: [] });
    const { target } = await bench.extract(stored);
    expect(lookInto(join(target, 'app.db'))).toEqual(SOUND);
  });
});

/** A database of one table that no program has open, with the content of its log still in the log. */
function make(name: string, mode: 'wal' | 'delete' | 'persist', rows = 1): void {
  const file = join(bench.tree, name);
  for (const end of ['', '-wal', '-shm', '-journal']) rmSync(file + end, { force: true });
  const database = new DatabaseSync(file);
  database.exec(`PRAGMA journal_mode = ${mode}; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (a)`);
  database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  for (let i = 0; i < rows; i++) database.prepare('INSERT INTO t VALUES (?)').run(i);
  // Closing moves the log into the file, so the files are saved before and put back afterwards.
  const kept = ['', '-wal', '-shm'].filter((end) => existsSync(file + end));
  for (const end of kept) copyFileSync(file + end, `${file}${end}.kept`);
  database.close();
  for (const end of kept) {
    copyFileSync(`${file}${end}.kept`, file + end);
    writeFileSync(`${file}${end}.kept`, '');
  }
}

function rowsOf(file: string): number {
  const database = new DatabaseSync(file);
  try {
    return Number(database.prepare('SELECT count(*) AS n FROM t').get()?.n);
  } finally {
    database.close();
  }
}

const previous = (stored: StoredTree) => ({ previous: { indexPath: bench.index, packs: stored.packs } });
const namesOf = async () => (await bench.entries()).map((entry) => entry.path).filter((name) => !/kept|^$/.test(name));

describe('an SQLite database that an application left', () => {
  test.each(['wal', 'delete', 'persist', 'truncate'])(
    'when it was killed is stored as SQLite would find it: %s',
    async (mode) => {
      for (let round = 0; round < 3; round++) {
        const name = `app-${round}`;
        await kill(await startWriter(name, mode));
        const stored = await bench.storeAfterTick(storing());
        expect(stored).toMatchObject({ databases: round + 1, torn: [], damaged: [] });
        const { target } = await bench.extract(stored);
        expect(lookInto(join(target, name))).toEqual(SOUND);
        expect(readdirSync(target).every((file) => /^app-.$/.test(file))).toBe(true);
      }
    },
  );

  test('is one file without its log in the index, and is copied again only after a change', async () => {
    make('app.db', 'wal', 5);
    writeFileSync(join(bench.tree, 'app.db-other'), 'not its own');
    writeFileSync(join(bench.tree, 'other-wal'), 'of no database');
    const copying = vi.spyOn(sqliteCopy, 'copyDatabase');
    const first = await bench.storeAfterTick(storing());
    expect(await namesOf()).toEqual(['app.db', 'app.db-other', 'other-wal']);
    const { target } = await bench.extract(first);
    expect(rowsOf(join(target, 'app.db'))).toBe(5);
    const again = await bench.storeAfterTick({ ...storing(), ...previous(first) });
    expect(again).toMatchObject({ databases: 1, newFiles: 0, unchangedFiles: again.files });
    expect(await namesOf()).toEqual(['app.db', 'app.db-other', 'other-wal']);
    expect(copying).toHaveBeenCalledTimes(1);
  });

  test('with a journal that stays is copied at the first attempt, and again only after a change', async () => {
    make('app.db', 'persist', 5);
    const copying = vi.spyOn(sqliteCopy, 'copyDatabase');
    const first = await bench.storeAfterTick(storing());
    expect(first).toMatchObject({ databases: 1, torn: [], damaged: [] });
    await bench.storeAfterTick({ ...storing(), ...previous(first) });
    expect(copying).toHaveBeenCalledTimes(1);
  });

  test('is copied again if only its log has changed', async () => {
    const database = new DatabaseSync(join(bench.tree, 'app.db'));
    database.exec(
      'PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (a); INSERT INTO t VALUES (1)',
    );
    const first = await bench.storeAfterTick(storing());
    const main = statSync(join(bench.tree, 'app.db'), { bigint: true }).ctimeNs;
    database.exec('INSERT INTO t VALUES (2)');
    const second = await bench.storeAfterTick({ ...storing(), ...previous(first) });
    expect(statSync(join(bench.tree, 'app.db'), { bigint: true }).ctimeNs).toBe(main);
    expect(second.newFiles).toBe(1);
    database.close();
    const { target } = await bench.extract(second);
    expect(rowsOf(join(target, 'app.db'))).toBe(2);
  });

  test('is stored without following a symlink in place of its log', async () => {
    make('app.db', 'wal', 5);
    copyFileSync(join(bench.tree, 'app.db-wal'), join(bench.spool, 'secret'));
    rmSync(join(bench.tree, 'app.db-wal'));
    symlinkSync(join(bench.spool, 'secret'), join(bench.tree, 'app.db-wal'));
    const stored = await bench.storeAfterTick(storing());
    const { target } = await bench.extract(stored);
    rmSync(join(target, 'app.db-wal'));
    expect(rowsOf(join(target, 'app.db'))).toBe(0);
  });
});

test('a file that only has the name of a log is stored', async () => {
  make('app.db', 'delete', 5);
  const others = { 'app.db-wal': 'a text', 'app.db-shm': 'another', 'app.db-journal': 'my diary' };
  for (const [name, text] of Object.entries(others)) writeFileSync(join(bench.tree, name), text);
  const stored = await bench.storeAfterTick(storing());
  // Includes the files of the set-up.
  expect(stored).toMatchObject({ files: 5, torn: [] });
  const again = await bench.storeAfterTick({ ...storing(), ...previous(stored) });
  expect(again.files).toBe(5);
  const { target } = await bench.extract(again);
  for (const [name, text] of Object.entries(others)) expect(readFileSync(join(target, name), 'utf8')).toBe(text);
});

test('a file that only starts like a companion is stored', async () => {
  make('photos', 'delete', 5);
  make('n', 'wal', 5);
  const random = Buffer.alloc(65_536, 'precious');
  const others = { 'photos-shm': random, 'photos-journal': '\0precious data', 'n-journal': '\xd9\xd5precious' };
  for (const [name, text] of Object.entries(others)) writeFileSync(join(bench.tree, name), text);
  const { target } = await bench.extract(await bench.storeAfterTick(storing()));
  for (const [name, text] of Object.entries(others)) {
    expect(readFileSync(join(target, name)).equals(Buffer.from(text)), name).toBe(true);
  }
});

test('journals and log indexes of SQLite are recognised, including unfilled and emptied ones', () => {
  const known = (name: string, content: Buffer) => {
    const file = join(bench.tree, name);
    writeFileSync(file, content);
    return isCompanion(Buffer.from(file));
  };
  const magic = Buffer.from('d9d505f920a163d7', 'hex');
  expect(known('a-journal', Buffer.concat([magic, Buffer.alloc(504, 7)]))).toBe(true);
  expect(known('b-journal', Buffer.concat([Buffer.alloc(12), Buffer.alloc(500, 7)]))).toBe(true);
  expect(known('c-journal', Buffer.alloc(512))).toBe(true);
  expect(known('d-journal', Buffer.alloc(0))).toBe(true);
  expect(known('a-shm', Buffer.alloc(32_768))).toBe(true);
  expect(known('b-shm', Buffer.alloc(32_767))).toBe(false);
});

describe('a database that is mounted as a single file', () => {
  const mounted = (name: string) =>
    vi.spyOn(mountPoint, 'isMountPoint').mockImplementation((_, path) => path.toString().endsWith(`/${name}`));

  test('is torn if its log is elsewhere, even if nothing changes', async () => {
    make('app.db', 'wal', 5);
    for (const name of ['app.db-wal', 'app.db-shm']) rmSync(join(bench.tree, name), { force: true });
    mounted('app.db');
    const stored = await bench.storeAfterTick(storing());
    expect(stored).toMatchObject({ tornCount: 1, torn: [{ path: 'app.db', cause: 'mount' }] });
    const again = await bench.storeAfterTick({ ...storing(), ...previous(stored) });
    expect(again).toMatchObject({ tornCount: 1, databases: 0 });
    expect(await measureTree(bench.tree, {})).toMatchObject({ databases: 1, withoutLog: ['app.db'] });
    vi.restoreAllMocks();
    expect(await measureTree(bench.tree, {})).toMatchObject({ databases: 1, withoutLog: [] });
  });

  test('is whole if it has no log, with a note about the journal of a crash', async () => {
    make('app.db', 'delete', 5);
    rmSync(join(bench.tree, 'app.db-journal'), { force: true });
    mounted('app.db');
    const stored = await bench.storeAfterTick(storing());
    expect(stored).toMatchObject({ tornCount: 0, databases: 1, notedCount: 1, noted: [{ path: 'app.db' }] });
  });

  test('is detected by the IDs of mounts', () => {
    const isMount = (path: string) => {
      const fd = openSync(path, 'r');
      try {
        return mountPoint.isMountPoint(fd, Buffer.from(path));
      } finally {
        closeSync(fd);
      }
    };
    expect(isMount(import.meta.filename)).toBe(false);
    expect(isMount('/proc/version')).toBe(false);
    expect(isMount('/proc')).toBe(true);
  });
});

describe('a database that a container mounts as a single file, in a directory that is backed up', () => {
  const mounts = (...names: string[]) => ({
    fileMounts: { paths: names.map((name) => `/srv/data/${name}`), views: [{ host: '/srv/data', local: bench.tree }] },
  });
  const withoutLog = (name: string) => {
    make(name, 'wal', 5);
    for (const end of ['-wal', '-shm']) rmSync(join(bench.tree, name + end), { force: true });
  };

  test('is torn, and so is a database stored before as whole that has not changed', async () => {
    mkdirSync(join(bench.tree, 'sub'));
    for (const name of ['app.db', 'other.db', 'sub/jobs.db']) withoutLog(name);
    const before = await bench.storeAfterTick(storing());
    expect(before).toMatchObject({ tornCount: 0, databases: 3 });
    const options = { ...storing(), ...mounts('app.db', 'sub/jobs.db', 'sub') };
    const stored = await bench.storeAfterTick({ ...options, ...previous(before) });
    const torn = ['app.db', 'sub/jobs.db'].map((path) => ({ path, cause: 'mount' }));
    expect(stored).toMatchObject({ tornCount: 2, torn, databases: 1 });
    const { withoutLog: found } = await measureTree(bench.tree, mounts('app.db', 'sub/jobs.db', 'sub'));
    expect(found).toEqual(['app.db', 'sub/jobs.db']);
    const after = await bench.storeAfterTick({ ...storing(), ...previous(stored) });
    expect(after).toMatchObject({ tornCount: 0, databases: 3 });
  });

  test('is whole with its log next to it, or without one, which a note says', async () => {
    make('app.db', 'wal', 5);
    make('plain.db', 'delete', 5);
    rmSync(join(bench.tree, 'plain.db-journal'), { force: true });
    const stored = await bench.storeAfterTick({ ...storing(), ...mounts('app.db', 'plain.db') });
    expect(stored).toMatchObject({ tornCount: 0, databases: 2, notedCount: 1, noted: [{ path: 'plain.db' }] });
    expect(await measureTree(bench.tree, mounts('app.db', 'plain.db'))).toMatchObject({ withoutLog: [] });
  });

  test('is torn under any of its names', async () => {
    withoutLog('app.db');
    linkSync(join(bench.tree, 'app.db'), join(bench.tree, 'link.db'));
    for (const name of ['app.db', 'link.db']) {
      const stored = await bench.storeAfterTick({ ...storing(), ...mounts(name) });
      expect(stored).toMatchObject({ tornCount: 1, torn: [{ path: name, cause: 'mount' }] });
    }
  });
});

test('holes of a database are holes in its copy', async () => {
  const file = join(bench.tree, 'app.db');
  const database = new DatabaseSync(file);
  // Pages of many blocks, of which all but the first are zeros.
  database.exec('PRAGMA page_size = 65536; CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(50000000))');
  database.close();
  execFileSync('fallocate', ['--dig-holes', file]);
  expect(statSync(file).blocks * 512).toBeLessThan(5_000_000);
  let heard = 0;
  const copies = new SqliteCopies(bench.spool, (bytes) => {
    heard += bytes;
  });
  const copy = await copies.copy(Buffer.from(file));
  expect(copy).toMatchObject({ outcome: 'copied', size: statSync(file).size, damage: [] });
  expect(statSync(join(bench.spool, 'sqlite/db')).blocks * 512).toBeLessThan(5_000_000);
  expect(heard).toBeLessThan(5_000_000);
  await copies.close();
});

describe('a database without a consistent copy', () => {
  test('is reported by name, and everything else is stored', async () => {
    make('bad.db', 'delete', 20_000);
    const bytes = readFileSync(join(bench.tree, 'bad.db'));
    bytes.fill(0xff, 8192, 12_288);
    writeFileSync(join(bench.tree, 'bad.db'), bytes);
    make('good.db', 'delete', 3);
    writeFileSync(
      join(bench.tree, 'fake.db'),
      Buffer.concat([Buffer.from('SQLite format 3\0'), Buffer.alloc(5000, 7)]),
    );
    const stored = await bench.storeAfterTick(storing());
    expect(stored).toMatchObject({ damagedCount: 1, damaged: [{ path: 'bad.db' }], torn: [], unreadableCount: 0 });
    const { target } = await bench.extract(stored);
    expect(readFileSync(join(target, 'bad.db')).equals(bytes)).toBe(true);
    expect(rowsOf(join(target, 'good.db'))).toBe(3);
    expect(readFileSync(join(target, 'fake.db')).length).toBe(5016);
    // The next run reports the damage again, although nothing has changed.
    const again = await bench.storeAfterTick({ ...storing(), ...previous(stored) });
    expect(again).toMatchObject({ damagedCount: 1 });
  });

  test('is stored as it was read and reported as torn, if it changes all the time', async () => {
    make('app.db', 'wal', 5);
    vi.spyOn(sqliteCopy, 'copyDatabase').mockImplementation(async () => 'changed');
    const stored = await bench.storeAfterTick(storing());
    expect(stored).toMatchObject({ databases: 0, tornCount: 1, torn: [{ path: 'app.db' }] });
    expect(await namesOf()).toEqual(['app.db', 'app.db-shm', 'app.db-wal']);
    // Restored by name, it includes its log, and nothing else.
    expect(await withCompanions(['other.db'], bench.index)).toEqual(['other.db']);
    const paths = await withCompanions(['app.db'], bench.index);
    expect(paths).toEqual(['app.db', './app.db-shm', './app.db-wal']);
    const { target } = await bench.extract(stored, { select: selectByGlobs(paths) });
    expect(rowsOf(join(target, 'app.db'))).toBe(5);
    // The next run tries again, although nothing has changed.
    vi.restoreAllMocks();
    const again = await bench.storeAfterTick({ ...storing(), ...previous(stored) });
    expect(again).toMatchObject({ databases: 1, tornCount: 0 });
    expect(await namesOf()).toEqual(['app.db']);
  });

  test('is reported if its log is next to another of its names, whichever name comes first', async () => {
    make('m.db', 'wal', 5);
    linkSync(join(bench.tree, 'm.db'), join(bench.tree, 'a.db'));
    const stored = await bench.storeAfterTick(storing());
    expect(stored).toMatchObject({
      torn: [{ path: 'm.db', cause: 'name' }],
      noted: [{ path: 'a.db', message: expect.stringContaining('hard link') }],
    });
    rmSync(join(bench.tree, 'a.db'));
    linkSync(join(bench.tree, 'm.db'), join(bench.tree, 'z.db'));
    expect(await bench.storeAfterTick(storing())).toMatchObject({ databases: 1, torn: [], noted: [] });
  });

  test('is torn without room for a copy if it has a log, and otherwise only not checked', async () => {
    make('log.db', 'wal', 5);
    make('plain.db', 'delete', 5);
    vi.spyOn(sqliteCopy, 'hasRoom').mockImplementation(async () => false);
    const stored = await bench.storeAfterTick(storing());
    expect(stored).toMatchObject({ torn: [{ path: 'log.db' }], noted: [{ path: 'plain.db' }] });
    vi.restoreAllMocks();
    // Neither counts as stored whole, although nothing has changed.
    const again = await bench.storeAfterTick({ ...storing(), ...previous(stored) });
    expect(again).toMatchObject({ databases: 2, torn: [], noted: [] });
  });

  test('is torn if it was replaced during the copy, or could not be read', async () => {
    make('app.db', 'wal', 5);
    vi.spyOn(SqliteCopies.prototype, 'copy').mockImplementation(async () => undefined);
    const stored = await bench.storeAfterTick(storing());
    expect(stored).toMatchObject({ databases: 0, torn: [{ path: 'app.db' }] });
  });

  test('is detected in a plain file once that has a log', async () => {
    make('app.db', 'wal', 5);
    // Without a spool, databases are stored like other files.
    const stored = await bench.storeAfterTick();
    const again = await bench.storeAfterTick({ ...storing(), ...previous(stored) });
    expect(again).toMatchObject({ databases: 1, torn: [] });
    const { target } = await bench.extract(again);
    expect(rowsOf(join(target, 'app.db'))).toBe(5);
  });

  test('is stored if its name is too long for a log, and so is everything else', async () => {
    const name = `${'x'.repeat(250)}.db`;
    make('app.db', 'delete', 5);
    copyFileSync(join(bench.tree, 'app.db'), join(bench.tree, name));
    const stored = await bench.storeAfterTick(storing());
    expect(stored).toMatchObject({ databases: 2, torn: [], unreadableCount: 0 });
    const again = await bench.storeAfterTick({ ...storing(), ...previous(stored) });
    expect(again).toMatchObject({ databases: 2, newFiles: 0 });
    const { target } = await bench.extract(again);
    expect(rowsOf(join(target, name))).toBe(5);
  });

  test('is stored with a note if an index needs a function of the application', async () => {
    const file = join(bench.tree, 'app.db');
    const database = new DatabaseSync(file);
    database.function('own', { deterministic: true }, (value) => value);
    database.exec('CREATE TABLE t (a); CREATE INDEX i ON t (own(a)); INSERT INTO t VALUES (1)');
    database.close();
    const stored = await bench.storeAfterTick(storing());
    expect(stored).toMatchObject({ databases: 1, damaged: [], torn: [], notedCount: 1 });
    expect(stored.noted[0]?.message).toContain('could not be checked');
  });
});

describe('a single database restored into a volume in use', () => {
  test.each(['a database', 'a file'])('may have a name of the maximum length: %s', async (kind) => {
    const name = 'x'.repeat(253);
    if (kind === 'a file') writeFileSync(join(bench.tree, name), 'old');
    else {
      make('data.db', 'delete', 5);
      copyFileSync(join(bench.tree, 'data.db'), join(bench.tree, name));
    }
    const stored = await bench.storeAfterTick(storing());
    const content = readFileSync(join(bench.tree, name));
    writeFileSync(join(bench.tree, name), 'changed');
    const rooted = { root: bench.tree, index: () => readIndexFileLines(bench.index), packs: stored.packs };
    const select = selectByGlobs([name]);
    const looked = await compareTree({ ...rooted, index: rooted.index(), select, overwrite: true });
    expect(looked).toMatchObject({ replaced: 1 });
    const agent = createVolumeBench(bench, bench.tree);
    await agent.build(stored, { select, overwrite: true });
    await agent.swap({ whole: false });
    expect(readFileSync(join(bench.tree, name)).equals(content)).toBe(true);
    await agent.back(SECOND);
    expect(readFileSync(join(bench.tree, name), 'utf8')).toBe('changed');
  });

  test('is not combined with the log of the one it replaces, and neither is a rollback', async () => {
    make('data.db', 'wal', 5);
    const stored = await bench.storeAfterTick(storing());
    const rooted = { root: bench.tree, index: () => readIndexFileLines(bench.index), packs: stored.packs };
    // The application continues: its new rows are in the log.
    make('data.db', 'wal', 9);
    utimesSync(join(bench.tree, 'data.db'), 1000, 1000);
    const select = selectByGlobs(['data.db']);
    const looked = await compareTree({ ...rooted, index: rooted.index(), select, overwrite: true });
    expect(looked).toMatchObject({ replaced: 1, equal: 0 });
    const agent = createVolumeBench(bench, bench.tree);
    await agent.build(stored, { select, overwrite: true });
    await agent.swap({ whole: false });
    expect(readdirSync(bench.tree).filter((name) => name.startsWith('data.db') && !name.endsWith('kept'))).toEqual([
      'data.db',
    ]);
    expect(rowsOf(join(bench.tree, 'data.db'))).toBe(5);
    // The application writes again. Then the old database comes back, with its own log.
    make('data.db', 'wal', 7);
    await agent.back(SECOND);
    expect(rowsOf(join(bench.tree, 'data.db'))).toBe(9);
  });
});

test.each<[string, string, (path: string) => void]>([
  ['-wal', 'a directory', (path) => mkdirSync(path)],
  ['-journal', 'a directory', (path) => mkdirSync(path)],
])('a database whose %s is %s: the reason is named', async (companion, kind, make) => {
  const database = new DatabaseSync(join(bench.tree, 'app.db'));
  database.exec('CREATE TABLE t (a); INSERT INTO t VALUES (1)');
  database.close();
  make(join(bench.tree, `app.db${companion}`));
  const { torn } = await bench.storeAfterTick({ spool: bench.spool });
  expect(torn[0]?.message ?? '').toContain(`its ${companion} is ${kind}`);
});
