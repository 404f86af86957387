import { createHash } from 'node:crypto';
import { copyFile, cp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { crc32, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DrillCheck, DrillReport, DrillResult } from '../../src/report/drill-report.ts';
import { checkText } from '../../src/report/drill-text.ts';
import { decodeManifest, encodeManifest, type Manifest } from '../../src/store/objects/manifest.ts';
import { ZipHeaders } from '../../src/store/packs/zip.ts';
import { holder, ok, postgres, Stack, until } from '../harness/stack.ts';
import { packsIn } from './repository-check.ts';

/**
 * Planted faults: every one must be found, and nothing else. A fault of a database is in the data that the snapshot
 * holds, whose hashes are right, while its record is that of the true data.
 */

/** What each database holds. */
const TRUE_DATA = `
  CREATE TABLE t (id serial PRIMARY KEY, v text CONSTRAINT filled CHECK (v <> ''));
  INSERT INTO t (v) SELECT md5(i::text) FROM generate_series(1, 500) i;
  CREATE INDEX by_v ON t (v); CREATE VIEW few AS SELECT * FROM t LIMIT 10;
  CREATE TABLE small AS SELECT 1 AS v; CREATE TABLE lost (v int); CREATE SEQUENCE spare; SELECT setval('spare', 5);
  CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 1';
  CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
  CREATE POLICY p ON t USING (true);
  CREATE TABLE parts (at date NOT NULL, v int) PARTITION BY RANGE (at);
  CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
  CREATE INDEX whole ON ONLY parts (v); CREATE INDEX piece ON parts_1 (v); ALTER INDEX whole ATTACH PARTITION piece;
  CREATE TABLE child (t int CONSTRAINT parent REFERENCES t); INSERT INTO child VALUES (1);
  SELECT lo_from_bytea(4711, 'large');
  CREATE EXTENSION citext; CREATE SCHEMA other; CREATE TABLE other.thing (v int); ALTER TABLE other.thing OWNER TO owner;
  GRANT USAGE ON SCHEMA other TO reader; GRANT SELECT ON t, few TO reader; GRANT UPDATE (v) ON t TO reader;
  CREATE SCHEMA quiet; SET search_path = quiet;
  CREATE TABLE open (v int); CREATE TABLE secret (v int); GRANT SELECT ON open TO reader;
  CREATE TABLE mine (v int); CREATE TABLE yours (v int); ALTER TABLE mine OWNER TO owner;
  CREATE FUNCTION body() RETURNS int LANGUAGE sql AS 'SELECT 1';
  CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
  CREATE TABLE fired (v int, w int); CREATE TRIGGER fire BEFORE INSERT ON fired FOR EACH ROW EXECUTE FUNCTION fires();
  CREATE VIEW shown AS SELECT 1 AS v; CREATE TABLE ranged (v varchar(9) CONSTRAINT known CHECK (v IN ('a', 'b')));
  CREATE TABLE unique_one (v int); CREATE UNIQUE INDEX once ON unique_one (v);
  CREATE TABLE rows_of (v int); ALTER TABLE rows_of ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON rows_of USING (v = 1);
  CREATE TYPE mood AS ENUM ('a', 'b'); CREATE DOMAIN small AS int CHECK (VALUE < 9); CREATE SEQUENCE steps INCREMENT 5;
  CREATE RULE quiet_rule AS ON DELETE TO fired DO INSTEAD NOTHING; CREATE STATISTICS stats ON v, w FROM fired;
  CREATE PUBLICATION news FOR TABLE fired;
  CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; COMMENT ON TABLE fired IS 'said';
  ALTER DEFAULT PRIVILEGES IN SCHEMA quiet GRANT SELECT ON TABLES TO reader;
  CREATE MATERIALIZED VIEW full_one AS SELECT 1 AS v;`;

/** For each faulty database: the changes, and the words that only they may cause. */
const DATABASE_FAULTS: Record<string, Record<string, string>> = {
  early: {
    'DELETE FROM child': 'public.child has 0 rows, the snapshot has 1',
    'INSERT INTO small VALUES (2)': 'public.small has 2 rows, the snapshot has 1',
    'DROP TABLE lost': 'table public.lost is missing',
    'DROP INDEX by_v': 'indexes, the snapshot has',
    'ALTER TABLE t DROP CONSTRAINT filled': 'constraints, the snapshot has',
    'DROP VIEW few': 'views, the snapshot has',
    'DROP TRIGGER tr ON t': 'triggers, the snapshot has',
    'DROP FUNCTION g()': 'functions, the snapshot has',
    'DROP POLICY p ON t': 'policies, the snapshot has',
    'DROP SEQUENCE spare': 'sequences, the snapshot has',
    'DROP EXTENSION citext': 'extension citext is missing',
    'SELECT lo_unlink(4711)': 'large object',
  },
  late: {
    'DROP INDEX whole; CREATE INDEX whole ON ONLY parts (v); CREATE INDEX piece ON parts_1 (v)':
      'invalid indexes of late: expected 0, found 1',
    'ALTER TABLE child DROP CONSTRAINT parent; ALTER TABLE child ADD CONSTRAINT parent FOREIGN KEY (t) REFERENCES t NOT VALID':
      'constraints not validated of late: expected 0, found 1',
    "SELECT setval('t_id_seq', 7)": 'public.t_id_seq is at 7, recorded 500',
    "SELECT setval('spare', 1, false)": 'public.spare was never used, recorded 5',
    'REVOKE SELECT ON few FROM reader': 'views on which reader has SELECT',
    'REVOKE UPDATE (v) ON t FROM reader': 'columns on which reader has UPDATE',
    'REVOKE USAGE ON SCHEMA other FROM reader': 'rights on schemas in schema other differ from the record: other',
    'GRANT DELETE ON t TO PUBLIC': 'tables on which PUBLIC has DELETE',
  },
  owned: { 'ALTER TABLE small OWNER TO owner': 'tables that owner owns' },
  // From here on, all numbers of objects and of rights stay equal.
  quiet_a: {
    'ALTER TABLE quiet.rows_of DISABLE ROW LEVEL SECURITY':
      'tables in schema quiet differ from the record: quiet.rows_of',
    'CREATE OR REPLACE VIEW quiet.shown AS SELECT 2 AS v': 'views in schema quiet differ from the record: quiet.shown',
    "CREATE OR REPLACE FUNCTION quiet.body() RETURNS int LANGUAGE sql AS 'SELECT 2'":
      'functions in schema quiet differ from the record: quiet.body()',
    'ALTER TABLE quiet.fired DISABLE TRIGGER fire': 'triggers in schema quiet differ from the record: quiet.fired fire',
    "ALTER TABLE quiet.ranged DROP CONSTRAINT known, ADD CONSTRAINT known CHECK (v IN ('a', 'c'))":
      'constraints in schema quiet differ from the record: quiet.ranged known',
    'DROP INDEX quiet.once; CREATE INDEX once ON quiet.unique_one (v)':
      'indexes in schema quiet differ from the record: quiet.once',
    'ALTER POLICY mine ON quiet.rows_of USING (true)':
      'policies in schema quiet differ from the record: quiet.rows_of mine',
    "ALTER TYPE quiet.mood RENAME VALUE 'b' TO 'c'": 'types in schema quiet differ from the record: quiet.mood',
    'ALTER SEQUENCE quiet.steps INCREMENT 6': 'sequences in schema quiet differ from the record: quiet.steps',
    'ALTER TABLE quiet.fired DISABLE RULE quiet_rule':
      'rules in schema quiet differ from the record: quiet.fired quiet_rule',
    'ALTER STATISTICS quiet.stats SET STATISTICS 7':
      'statistics objects in schema quiet differ from the record: quiet.stats',
    'ALTER PUBLICATION news SET TABLE quiet.secret': 'publications differ from the record: news',
    "COMMENT ON TABLE quiet.fired IS 'other'": 'comments in schema quiet differ from the record: table quiet.fired',
    'ALTER DEFAULT PRIVILEGES IN SCHEMA quiet GRANT INSERT ON TABLES TO reader':
      'default privileges in schema quiet differ from the record: quiet.tables of postgres',
    'ALTER TABLE quiet.mine OWNER TO postgres; ALTER TABLE quiet.yours OWNER TO owner':
      'rights on tables in schema quiet differ from the record',
    'CREATE EVENT TRIGGER watcher ON sql_drop EXECUTE FUNCTION quiet.watch()': 'event triggers: 1, recorded 0: watcher',
  },
  quiet_b: {
    'ALTER TABLE quiet.ranged ALTER v SET NOT NULL': 'tables in schema quiet differ from the record: quiet.ranged',
    'ALTER TABLE parts DETACH PARTITION parts_1': 'tables in schema public differ from the record: public.parts_1',
    'ALTER DOMAIN quiet.small DROP CONSTRAINT small_check; ALTER DOMAIN quiet.small ADD CONSTRAINT small_check CHECK (VALUE < 8)':
      'constraints in schema quiet differ from the record: quiet.small small_check',
    'ALTER FUNCTION quiet.body() SECURITY DEFINER': 'functions in schema quiet differ from the record: quiet.body()',
    'REFRESH MATERIALIZED VIEW quiet.full_one WITH NO DATA': 'materialized view quiet.full_one has no content',
    'REVOKE SELECT ON quiet.open FROM reader; GRANT SELECT ON quiet.secret TO reader':
      'rights on tables in schema quiet differ from the record',
    'GRANT USAGE ON TYPE quiet.mood TO reader': 'rights on types in schema quiet differ from the record: quiet.mood',
    "SELECT lo_put(4711, 9, 'x')": 'bytes of large objects of quiet_b: expected 5, found 10',
  },
};
/** Changes of the server's roles, with their words. */
const ROLE_FAULTS: Record<string, string> = {
  'REVOKE team FROM reader': 'role reader is a member of team no more',
  'GRANT team TO owner WITH ADMIN OPTION': 'role owner is a member of team (ADMIN), not in the record',
  'ALTER ROLE reader NOLOGIN': 'role reader has LOGIN no more',
  'ALTER ROLE owner CREATEDB': 'role owner has CREATEDB now',
  "ALTER ROLE team PASSWORD 'canary'": 'role team has a password, unlike recorded',
  "ALTER ROLE team SET work_mem = '9MB'": 'setting work_mem of role team differs',
  "ALTER ROLE team VALID UNTIL '2030-01-01'": 'role team is valid until 2030-01-01 00:00:00, recorded any time',
  'DROP ROLE idle': 'role idle is missing',
  'CREATE ROLE newer': 'role newer is not in the record',
};
/** The checks that find them. An owner has all rights on what it owns. */
const FAILED_CHECKS: Record<string, string[]> = {
  early: ['equal to the record'],
  late: [
    'constraints not validated',
    'definitions',
    'grants',
    'invalid indexes',
    'owners and rights of each object',
    'sequence values',
  ],
  owned: ['grants', 'owners', 'owners and rights of each object'],
  quiet_a: ['definitions', 'owners and rights of each object'],
  quiet_b: [
    'bytes of large objects',
    'definitions',
    'materialized views without content',
    'owners and rights of each object',
  ],
  server: ['memberships', 'roles'],
};

/** Faults of the repository, by the volume that they hit, and the code of the error, or the check that fails. */
type Plant = (at: { directory: string; manifest: Manifest; source: string }) => Promise<void>;
const REPOSITORY_FAULTS: Record<string, [plant: Plant, found: string]> = {
  'pack-flipped': [async (at) => flip(await packOf(at)), 'OBJECT_DAMAGED'],
  'pack-cut': [async (at) => truncate(await packOf(at), 4000), 'OBJECT_DAMAGED'],
  'pack-grown': [async (at) => writeFile(await packOf(at), 'more', { flag: 'a' }), 'OBJECT_DAMAGED'],
  'pack-empty': [async (at) => truncate(await packOf(at), 0), 'OBJECT_DAMAGED'],
  'pack-missing': [async (at) => rm(await packOf(at)), 'OBJECT_MISSING'],
  'pack-swapped': [
    async (at) => copyFile(await packOf({ ...at, source: 'web.good' }), await packOf(at)),
    'OBJECT_DAMAGED',
  ],
  'content-changed': [changeContent, 'OBJECT_DAMAGED'],
  'index-flipped': [async (at) => flip(indexOf(at)), 'OBJECT_DAMAGED'],
  'index-missing': [async (at) => rm(indexOf(at)), 'OBJECT_MISSING'],
  'index-swapped': [async (at) => copyFile(indexOf({ ...at, source: 'web.good' }), indexOf(at)), 'OBJECT_DAMAGED'],
  'index-lacks-a-file': [
    (at) => changeIndex(at, (lines) => lines.filter((line) => !line.includes('"path":"a/two"'))),
    'files in the index',
  ],
  'index-has-a-file': [
    (at) =>
      changeIndex(at, (lines) => [...lines, (lines.find(isFile) as string).replace(/"path":"[^"]*"/, '"path":"zz"')]),
    'files in the index',
  ],
  'list-flipped': [async (at) => flip(listOf(at)), 'OBJECT_DAMAGED'],
  'list-missing': [async (at) => rm(listOf(at)), 'OBJECT_MISSING'],
  'manifest-lacks-a-file': [
    async ({ manifest, source }) => void entryOf({ manifest, source }).files--,
    'files in the index',
  ],
  'manifest-has-bytes': [
    async ({ manifest, source }) => void entryOf({ manifest, source }).bytes++,
    'bytes in the index',
  ],
};

/** Changes restored files, as a broken disk or a bug of a restore would. Runs in the volume after the restore. */
const DOCTOR = `cd /source && printf X | dd of=flipped/file bs=1 seek=1000 conv=notrunc && truncate -s 2999 cut/file
rm missing/file; : >extra/new; rmdir gone/sub; mkdir more/new; chown 33 owner/file; chmod 4755 mode/file
ln -sfn elsewhere link/link; rm hard/two; cp hard/one hard/two; chown 0:7 dir-owner; chmod 777 dir-mode; chmod 700 .
find . -exec touch -h -d @1000 {} +; touch -d @2000 time/file dir-time`;
const VOLUME_FAULTS = {
  'files, symlinks and directories': [
    'extra/new is not in the record',
    'gone/sub is missing',
    'missing/file is missing',
    'more/new is not in the record',
  ],
  'owner, mode, size, time and target': [
    '.: mode 700, recorded 755',
    'cut/file: size 2999, recorded 3000',
    'dir-mode: mode 777, recorded 755',
    'dir-owner: owner 0:7, recorded 0:0',
    'dir-time: time 2000.000000000, recorded 1000.000000000',
    'hard/two: not the same file as hard/one',
    'link/link: target elsewhere, recorded file',
    'mode/file: mode 4755, recorded 644',
    'owner/file: owner 33:0, recorded 0:0',
    'time/file: time 2000.000000000, recorded 1000.000000000',
  ],
  'SHA-256': ['cut/file: the content is not the recorded one', 'flipped/file: the content is not the recorded one'],
};

const VOLUMES = [...Object.keys(REPOSITORY_FAULTS), 'good', 'doctored'];
const SOURCES = VOLUMES.map((name) => `web.${name}`);

/** Fills each volume with a few files of random content, which no compression changes. */
const FILL = `umask 022; cd /v && for volume in *; do cd /v/$volume; mkdir a a/b; for file in a/one a/two a/b/three; do
  head -c 3000 /dev/urandom >$file; done; ln a/one a/hard; ln -s one a/link; chown 33:33 a/two; done
cd /v/doctored && mkdir flipped cut missing extra gone gone/sub more owner mode link hard time dir-owner dir-mode dir-time
for directory in flipped cut missing owner mode link hard time; do head -c 3000 /dev/urandom >$directory/file; done
printf Y | dd of=flipped/file bs=1 seek=1000 conv=notrunc 2>/dev/null
mv hard/file hard/one; ln hard/one hard/two; ln -s file link/link; cat >doctor; find /v -exec touch -h -d @1000 {} +`;

/** In the image of the agent and its helpers: changes files that were restored, if they hold a file \`doctor\`. */
const WRAPPER = `#!/bin/sh
[ "$1" = tree-job ] || exec /usr/local/bin/lifeboat.real "$@"
/usr/local/bin/lifeboat.real "$@" || exit
[ ! -f /source/doctor ] || sh /source/doctor >/dev/null 2>&1 || true
`;

/** A disk that is full when it is looked at for the fifth time, in the middle of a restore. */
const DF = `#!/bin/sh
calls=$(cat /tmp/df-calls 2>/dev/null || echo 0) && echo $((calls + 1)) >/tmp/df-calls
[ "$calls" -ge 4 ] || exec /usr/bin/df "$@"
printf 'Filesystem 1024-blocks Used Available Capacity Mounted\\n/dev/sda 100000000 99999000 1000 100%% /\\n'
`;

describe('planted faults', () => {
  const image = `lbt-doctored-${Math.random().toString(16).slice(2, 10)}`;
  const full = `lbt-full-${Math.random().toString(16).slice(2, 10)}`;
  let stack: Stack;
  let good: string;
  let bad: string;

  const drill = async (...args: string[]) => {
    const { code, stdout, stderr } = await stack.lifeboatInTurn('drill', '--json', ...args);
    try {
      return { code, report: JSON.parse(stdout) as DrillReport };
    } catch {
      throw new Error(`drill gave no report:\n${stdout}\n${stderr}`);
    }
  };
  const failed = ({ checks }: DrillResult) => checks.filter(({ result }) => result === 'failed');
  const words = (check: DrillCheck) => `${checkText(check)} ${(check.differences ?? []).join(' ')}`;
  const result = ({ results }: DrillReport, source: string) =>
    results.find((one) => one.source === source) as DrillResult;

  beforeAll(async () => {
    const script = Buffer.from(WRAPPER).toString('base64');
    const bin = '/usr/local/bin/lifeboat';
    const steps = `FROM ${process.env.LIFEBOAT_TEST_IMAGE ?? 'lifeboat:test'}
RUN mv ${bin} ${bin}.real && echo ${script} | base64 -d >${bin} && chmod 755 ${bin}\n`;
    await ok('docker', ['build', '--quiet', '--tag', image, '-'], { input: steps });
    const df = Buffer.from(DF).toString('base64');
    const disk = `FROM postgres:17\nUSER root\nRUN echo ${df} | base64 -d >/usr/local/bin/df && chmod 755 /usr/local/bin/df\n`;
    await ok('docker', ['build', '--quiet', '--tag', full, '-'], { input: disk });
    stack = await Stack.start({
      image,
      env: { LIFEBOAT_SIGNING_KEY: 'canary-signing-key-of-planted-faults' },
      services: {
        db: postgres(17, { environment: { POSTGRES_DB: 'template' } }),
        tiny: postgres(17),
        full: postgres(17, { image: full }),
        hungry: postgres(17, {
          labels: { 'lifeboat.postgres': 'true', 'lifeboat.drill.assert': "length(repeat('x', 400000000)) > 0" },
        }),
        web: holder(
          VOLUMES.map((name) => `${name}:/v/${name}`),
          { 'lifeboat.volumes': VOLUMES.join(',') },
        ),
      },
      volumes: Object.fromEntries(VOLUMES.map((name) => [name, {}])),
      agent: { volumes: ['./planted:/planted'] },
    });
    await stack.psql(
      'CREATE ROLE owner; CREATE ROLE reader LOGIN; CREATE ROLE idle LOGIN; CREATE ROLE team; GRANT team TO reader',
    );
    await stack.psql(TRUE_DATA, { database: 'template' });
    for (const name of [...Object.keys(DATABASE_FAULTS), 'good']) {
      await stack.psql(`CREATE DATABASE ${name} TEMPLATE template STRATEGY file_copy`);
      await stack.psql(`ALTER DATABASE ${name} SET work_mem = '7MB'; GRANT TEMP ON DATABASE ${name} TO reader`);
    }
    await stack.psql('CREATE TABLE t AS SELECT generate_series(1, 100) AS n', { service: 'tiny' });
    await stack.exec('web', ['sh', '-c', FILL], DOCTOR);
    good = await backUp();
  });
  afterAll(async () => {
    await stack?.destroy();
    await ok('docker', ['image', 'rm', image, full]);
  });

  async function backUp(): Promise<string> {
    const { report, stderr } = await stack.backup();
    expect(report.status, stderr).toBe('ok');
    return report.snapshot as string;
  }

  /** Copies the repository, and changes a snapshot in the copy. Returns its path in the agent. */
  async function plant(
    name: string,
    snapshot: string,
    change: (directory: string, manifest: Manifest) => Promise<void>,
  ) {
    const directory = path.join(stack.directory, 'planted', name);
    await cp(path.join(stack.directory, 'backups'), directory, { recursive: true });
    const file = manifestIn(directory, snapshot);
    const { signature: _, ...manifest } = decodeManifest(await readFile(file));
    await change(directory, manifest);
    await writeFile(file, encodeManifest(manifest));
    return `/planted/${name}`;
  }
  const manifestIn = (directory: string, snapshot: string) =>
    path.join(directory, stack.project, 'snapshots', snapshot, 'manifest.json');

  const files = SOURCES.filter((source) => source !== 'web.doctored');
  const all = ['db.postgres', 'tiny.postgres', ...files];
  const rounds = [all, all.slice(1), all.slice(0, 5)];

  it.each(rounds)('raise no alarm in 40 drills of good snapshots: $0 and more', async (...sources) => {
    expect(rounds.flat().length).toBeGreaterThanOrEqual(40);
    const { code, report } = await drill(...sources, '--snapshot', good);
    expect(report.results.flatMap(failed).map(words)).toEqual([]);
    expect(report.results.map(({ source, status, notes }) => ({ source, status, notes }))).toEqual(
      sources.map((source) => ({ source, status: 'ok', notes: [] })),
    );
    expect(code).toBe(0);
    expect(await stack.helpers()).toEqual([]);
  });

  it('are found in each database, and in no other', async () => {
    for (const [database, faults] of Object.entries(DATABASE_FAULTS))
      for (const sql of Object.keys(faults)) await stack.psql(sql, { database });
    for (const sql of Object.keys(ROLE_FAULTS)) await stack.psql(sql);
    bad = await backUp();
    const from = await plant('databases', bad, async (directory, manifest) => {
      const recorded = decodeManifest(await readFile(manifestIn(directory, good)));
      Object.assign(entryOf({ manifest, source: 'db.postgres' }), {
        facts: entryOf({ manifest: recorded, source: 'db.postgres' }).facts,
      });
    });
    const { code, report } = await drill('db.postgres', '--snapshot', bad, '--from', from, '--unsigned');
    expect(code).toBe(1);
    const found = failed(result(report, 'db.postgres'));
    const names: Record<string, string[]> = {};
    for (const { of, name } of found) names[of] = [...(names[of] ?? []), name].sort();
    expect(names).toEqual(FAILED_CHECKS);
    const text = (of: string) =>
      found
        .filter((check) => check.of === of)
        .map(words)
        .join('\n');
    for (const [database, faults] of Object.entries(DATABASE_FAULTS))
      for (const expected of Object.values(faults)) expect(text(database)).toContain(expected);
    for (const expected of Object.values(ROLE_FAULTS)) expect(text('server')).toContain(expected);
    const differences = (of: string) => found.flatMap((check) => (check.of === of ? (check.differences ?? []) : []));
    expect(differences('early')).toHaveLength(Object.keys(DATABASE_FAULTS.early as object).length);
    expect(differences('server')).toHaveLength(Object.keys(ROLE_FAULTS).length);
  });

  it('are found in the repository and on the disk, each in its source', async () => {
    const from = await plant('repository', good, async (directory, manifest) => {
      for (const [name, [change]] of Object.entries(REPOSITORY_FAULTS))
        await change({ directory, manifest, source: `web.${name}` });
    });
    const { code, report } = await drill(...SOURCES, '--snapshot', good, '--from', from, '--unsigned');
    expect(code).toBe(1);
    const found = Object.entries(REPOSITORY_FAULTS).map(([name]) => {
      const { status, error, ...one } = result(report, `web.${name}`);
      return [name, status, error?.code ?? failed(one as DrillResult)[0]?.name];
    });
    expect(found).toEqual(Object.entries(REPOSITORY_FAULTS).map(([name, [, code]]) => [name, 'failed', code]));
    expect(result(report, 'web.good')).toMatchObject({ status: 'ok', notes: [] });
    const doctored = failed(result(report, 'web.doctored'));
    expect(Object.fromEntries(doctored.map(({ name, differences }) => [name, differences]))).toEqual(VOLUME_FAULTS);
  });

  it('end with their own error if the server of a drill has too little disk or memory', async () => {
    await stack.psql('CREATE DATABASE shop', { service: 'full' });
    await stack.psql('CREATE TABLE t AS SELECT generate_series(1, 100) AS n', { service: 'full', database: 'shop' });
    // Only a database with data is asked.
    await stack.psql('CREATE TABLE t AS SELECT generate_series(1, 100) AS n', { service: 'hungry' });
    const { report: made } = await stack.backup('full.postgres', 'hungry.postgres');
    const snapshot = ['--snapshot', made.snapshot as string];
    const disk = await drill('full.postgres', ...snapshot);
    expect([disk.code, result(disk.report, 'full.postgres').error?.code]).toEqual([1, 'PG_NO_SPACE']);
    const ended = drill('hungry.postgres', ...snapshot);
    const server = await until('the server of the drill is there', async () =>
      (await stack.helpers()).find((name) => name.includes('-drill-')),
    );
    await ok('docker', ['update', '--memory', '200m', '--memory-swap', '200m', server]);
    const { code, report } = await ended;
    const hungry = result(report, 'hungry.postgres');
    // That says nothing about the snapshot.
    expect({ code, ...hungry, checks: failed(hungry).map(words) }).toMatchObject({
      ...{ code: 3, status: 'unproven', checks: [] },
      error: { code: 'HELPER_FAILED', message: expect.stringContaining('more memory') },
    });
    expect(await stack.helpers()).toEqual([]);
  });

  it('are found in a manifest that was changed, or has no signature', async () => {
    const outcomes: unknown[] = [];
    for (const keep of [true, false]) {
      const from = await plant(`manifest-${keep}`, good, async (directory, manifest) => {
        const { signature } = decodeManifest(await readFile(manifestIn(directory, good)));
        Object.assign(manifest, keep ? { signature, end: manifest.start } : {});
      });
      const { code, report } = await drill('web.good', '--snapshot', good, '--from', from);
      outcomes.push([code, report.results[0]?.error?.code]);
    }
    expect(outcomes).toEqual([
      [1, 'SIGNATURE_WRONG'],
      [1, 'SIGNATURE_MISSING'],
    ]);
  });
});

const isFile = (line: string) => line.includes('"type":"file"');

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

interface At {
  directory: string;
  manifest: Manifest;
  source: string;
}

function entryOf({ manifest, source }: Pick<At, 'manifest' | 'source'>): Manifest['sources'][string] {
  return manifest.sources[source] as Manifest['sources'][string];
}

function indexOf({ directory, ...at }: At): string {
  return path.join(directory, entryOf(at).index?.key as string);
}

function listOf({ directory, ...at }: At): string {
  return path.join(directory, entryOf(at).packs?.key as string);
}

async function packOf({ directory, ...at }: At): Promise<string> {
  const [pack] = await packsIn(directory, entryOf(at).packs as { key: string });
  return path.join(directory, pack?.key as string);
}

async function flip(file: string): Promise<void> {
  const bytes = await readFile(file);
  bytes[Math.floor(bytes.length / 2)]! ^= 1;
  await writeFile(file, bytes);
}

/** Replaces a document, and its size and hash in the reference to it. */
async function replace(ref: { size: number; sha256: string }, file: string, text: string): Promise<void> {
  const bytes = zstdCompressSync(Buffer.from(text));
  await writeFile(file, bytes);
  Object.assign(ref, { size: bytes.length, sha256: sha256(bytes) });
}

async function changeIndex(at: At, change: (lines: string[]) => string[]): Promise<void> {
  const file = indexOf(at);
  const lines = zstdDecompressSync(await readFile(file))
    .toString()
    .trimEnd()
    .split('\n');
  await replace(entryOf(at).index as never, file, `${change(lines).join('\n')}\n`);
}

/** Writes a pack with other bytes for one file, whose hashes are all right but that in the index. */
async function changeContent(at: At): Promise<void> {
  const lines = zstdDecompressSync(await readFile(indexOf(at)))
    .toString()
    .trimEnd()
    .split('\n');
  const files = lines.map((line) => JSON.parse(line)).filter(({ type }) => type === 'file');
  const headers = new ZipHeaders();
  const parts = files.flatMap(({ entry, size }: { entry: string; size: number }) => {
    const content = Buffer.alloc(size, 'other');
    return [headers.before(entry, 0n, { size, crc32: crc32(content) }), content];
  });
  const bytes = Buffer.concat([...parts, headers.end()]);
  const packs = await packsIn(at.directory, entryOf(at).packs as { key: string });
  expect(packs.map(({ key }) => path.extname(key))).toEqual(['.zip']);
  await writeFile(await packOf(at), bytes);
  Object.assign(packs[0] as object, { size: bytes.length, sha256: sha256(bytes), plainSize: bytes.length });
  await replace(entryOf(at).packs as never, listOf(at), packs.map((pack) => `${JSON.stringify(pack)}\n`).join(''));
}
