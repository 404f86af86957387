import { closeSync, openSync, readdirSync, statSync, writeSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { holder, postgres, Stack } from '../test/harness/stack.ts';
import { notEmpty } from './database.ts';
import { shell } from './measure.ts';
import { type BenchOptions, expectOk } from './stack.ts';

const DAYS = 10;
const MOST = 1.1;
/** Rows of about 230 bytes. */
const ROWS = 4_000_000;
const FILE_SIZE = 300 * 1024 ** 2;
/** The size of the part of the file that changes each day, bytes. */
const CHANGE = 4096;

type What = 'database' | 'volume';
type Bytes = Record<What, number>;

/** The backed-up data, and the places that the rivals use. */
interface Arena {
  stack: Stack;
  directory: string;
  media: string;
  rows: number;
}

/** Returns rows of words, numbers and times, as an INSERT. */
const insertRows = (from: number, to: number) => `INSERT INTO event
  SELECT i, timestamptz '2025-01-01' + i * interval '7 seconds', (hashint8(i)::bigint + 2147483648) % 90000,
         (ARRAY['viewed','added','paid','returned'])[1 + i % 4], 'page ' || (hashint8(i * 3)::bigint + 2147483648) % 5000,
         (SELECT string_agg(substr(md5(((i * 7 + w * 13) % 20011)::text), 1, 3 + (i + w)::int % 6), ' ')
            FROM generate_series(1, 24) w)
    FROM generate_series(${from}::bigint, ${to}) i`;

/**
 * Stored bytes after daily backups of a database with a table that grows by 0.5 % and in which 1 % of the rows change,
 * and of a volume with a large file in which 4 KiB change.
 */
export async function benchHistory({ small, image }: BenchOptions): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-bench-'));
  const media = path.join(directory, 'media');
  await mkdir(media);
  const stack = await Stack.start({
    services: {
      db: postgres(17, { shm_size: '256m' }),
      web: holder([`${media}:/media`], { 'lifeboat.volumes': '/media' }),
    },
    agent: { volumes: [`${media}:/seen:ro`] },
    receiver: false,
    image,
  });
  try {
    const arena = { stack, directory, media, rows: small ? ROWS / 10 : ROWS };
    const size = await prepare(arena);
    const days: Record<string, Bytes[]> = { ours: [], restic: [], archives: [] };
    for (let day = 1; day <= DAYS; day++) {
      if (day > 1) await change(arena, day);
      days.ours?.push(await backUp(arena));
      days.restic?.push(await backUpWithRestic(arena));
      days.archives?.push(await archive(arena, day));
      const now = Object.entries(days).map(([name, all]) => `${name} ${megabytes(sum(all.at(-1)))}`);
      process.stderr.write(`day ${day} of ${DAYS}: ${now.join(', ')}\n`);
    }
    return `Database of ${size}, Postgres 17, and a file of 300 MiB, for ${DAYS} days.\n\n${table(days)}`;
  } finally {
    await stack.destroy();
    await rm(directory, { recursive: true, force: true });
  }
}

/** Makes the database and the file. Returns the size of the database, for people. */
async function prepare({ stack, directory, media, rows }: Arena): Promise<string> {
  process.stderr.write('making a database and a file\n');
  await stack.psql('CREATE DATABASE app');
  await stack.psql(
    `SET synchronous_commit = off;
     CREATE TABLE event (id bigint PRIMARY KEY, at timestamptz, who int, what text, page text, detail text);
     ${insertRows(1, rows)}; VACUUM ANALYZE; CHECKPOINT;`,
    { database: 'app' },
  );
  await shell(`head -c ${FILE_SIZE} /dev/urandom > ${media}/library.db`);
  await writeFile(path.join(directory, 'password'), 'benchmark');
  for (const what of ['database', 'volume']) await shell(`${restic(directory, what)} init`);
  return stack.psql("SELECT pg_size_pretty(pg_database_size('app'))");
}

/** Appends 0.5 % of the rows, updates every second one of the newest 2 %, and writes somewhere into the file. */
async function change({ stack, media, rows }: Arena, day: number): Promise<void> {
  const step = rows / 200;
  const last = rows + (day - 1) * step;
  await stack.psql(
    `${insertRows(last - step + 1, last)};
     UPDATE event SET what = 'changed', page = 'page ' || ${day} WHERE id > ${last - rows / 50} AND id % 2 = ${day % 2};
     VACUUM event;`,
    { database: 'app' },
  );
  const fd = openSync(path.join(media, 'library.db'), 'r+');
  writeSync(fd, Buffer.alloc(CHANGE, `day ${day}`), 0, CHANGE, (day * 27 * 1024 * 1024) % FILE_SIZE);
  closeSync(fd);
}

async function backUp({ stack }: Arena): Promise<Bytes> {
  await expectOk(stack.lifeboat('backup'));
  // Objects under the name of a source; the manifests count for both.
  const list = await stack.exec('lifeboat', ['find', '/backups', '-type', 'f', '-printf', '%s %p\\n']);
  const bytes = { database: 0, volume: 0 };
  for (const line of list.trimEnd().split('\n')) {
    const size = Number(line.split(' ')[0]);
    if (!line.includes('/web.')) bytes.database += size;
    if (!line.includes('/db.postgres')) bytes.volume += size;
  }
  return bytes;
}

const restic = (directory: string, what: string) =>
  `restic --quiet --no-cache --repo ${directory}/restic-${what} --password-file ${directory}/password`;

/** restic stores an uncompressed dump, and the tree of the volume. */
async function backUpWithRestic({ stack, directory, media }: Arena): Promise<Bytes> {
  const dump = `${directory}/dump`;
  await shell(
    `rm -rf ${dump} && docker run --rm --network container:${await stack.id('db')} --volume ${directory}:${directory} ` +
      `--entrypoint pg_dump postgres:17 -h 127.0.0.1 -U postgres -Fd -j2 --compress=0 -f ${dump} app`,
  );
  await shell(`${restic(directory, 'database')} backup ${dump}`);
  await shell(`${restic(directory, 'volume')} backup ${media}`);
  await rm(dump, { recursive: true });
  return { database: sizeOf(`${directory}/restic-database`), volume: sizeOf(`${directory}/restic-volume`) };
}

/** Compressed files, as in a runbook. All of them stay. */
async function archive({ stack, directory, media }: Arena, day: number): Promise<Bytes> {
  const dump = `${directory}/archives-database/${day}.sql.gz`;
  await shell(`mkdir -p ${directory}/archives-database ${directory}/archives-volume`);
  await shell(`docker exec ${await stack.id('db')} pg_dump -U postgres app | gzip > ${dump}`);
  await notEmpty(dump);
  await shell(`tar -C ${media} -czf ${directory}/archives-volume/${day}.tar.gz .`);
  return { database: sizeOf(`${directory}/archives-database`), volume: sizeOf(`${directory}/archives-volume`) };
}

/** Returns the size of all files below a directory, bytes. */
function sizeOf(directory: string): number {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((bytes, { parentPath, name }) => bytes + statSync(path.join(parentPath, name)).size, 0);
}

const sum = (bytes: Bytes | undefined) => (bytes ? bytes.database + bytes.volume : 0);
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;

function table(days: Record<string, Bytes[]>): string {
  const lines = ['| what | Lifeboat | restic | gzip and tar |', '|---|---|---|---|'];
  const cells = (pick: (all: Bytes[]) => number) =>
    ['ours', 'restic', 'archives'].map((name) => megabytes(pick(days[name] ?? []))).join(' | ');
  const kinds: What[] = ['database', 'volume'];
  for (const what of kinds) {
    lines.push(`| ${what}, day 1 | ${cells((all) => all[0]?.[what] ?? 0)} |`);
    lines.push(`| ${what}, day ${DAYS} | ${cells((all) => all.at(-1)?.[what] ?? 0)} |`);
  }
  lines.push('', '| budget | measured | most | met |', '|---|---|---|---|');
  for (const what of kinds) {
    const ratio = (days.ours?.at(-1)?.[what] ?? 0) / (days.restic?.at(-1)?.[what] ?? 1);
    lines.push(`| ${what}: Lifeboat ÷ restic | ${ratio.toFixed(2)} | ${MOST} | ${ratio <= MOST ? 'yes' : 'no'} |`);
  }
  return lines.join('\n');
}
