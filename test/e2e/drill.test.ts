import { createHash } from 'node:crypto';
import { cp, readdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DrillCheck, DrillReport, DrillResult } from '../../src/report/drill-report.ts';
import type { DatabaseFacts, PostgresFacts } from '../../src/sources/postgres/facts/facts.ts';
import { decodeManifest, encodeManifest, type Manifest } from '../../src/store/objects/manifest.ts';
import { holder, ok, postgres, type Ran, Stack, type StackOptions, sh, until } from '../harness/stack.ts';
import { packsIn } from './repository-check.ts';

const SETTINGS = {
  // Longer than a busy machine may stall.
  LIFEBOAT_DRILL_ASSERT_TIMEOUT: '5s',
  LIFEBOAT_SIGNING_KEY: 'canary-signing-key-of-drills',
  LIFEBOAT_COPY: '/copy',
};

/** Calls `change` with each of some recorded things. */
function each<T>(all: readonly T[] | undefined, change: (one: T) => void): void {
  for (const one of all ?? []) change(one);
}

/** Faults of a record that the comparison of every restore finds, in the database `early`: what it says of them. */
const EARLY: Record<string, (facts: DatabaseFacts) => void> = {
  'public.t has 3,000 rows, the snapshot has 3001': ({ tables }) =>
    each(tables, (one) => void (one.name === 't' && one.rows++)),
  'table other.lost is missing': ({ tables }) =>
    void tables.push({ ...(tables[0] as DatabaseFacts['tables'][number]), name: 'lost', rows: 0 }),
  'indexes, the snapshot has': ({ objects }) => void (objects && objects.indexes++),
  'views, the snapshot has': ({ objects }) => void (objects && objects.views++),
  'triggers, the snapshot has': ({ objects }) => void (objects && objects.triggers++),
  'extension lost is missing': ({ extensions }) =>
    void extensions.push({ name: 'lost', version: '1', schema: 'public' }),
  'large object, the snapshot has': (facts) => void facts.largeObjects++,
};

/** Records other definitions, or rights, of one kind of object. */
function otherDigest(definitions: DatabaseFacts['definitions'], kind: string): void {
  each(definitions?.digests, (one) => void (one.kind === kind && Object.assign(one, { sha256: '0'.repeat(64) })));
}

/** Faults of a record that a drill finds in the complete database `late`, by the check that finds them. */
const LATE: Record<string, (facts: DatabaseFacts) => void> = {
  'invalid indexes': ({ details }) => void (details && details.invalidIndexes--),
  'constraints not validated': ({ details }) => void (details && details.unvalidated--),
  'sequence values': ({ sequences }) => each(sequences, (one) => void Object.assign(one, { value: `${one.value}1` })),
  grants: ({ details }) =>
    void details?.granted.push({ kind: 'table', role: 'reader', privilege: 'DELETE', objects: 1 }),
  definitions: ({ definitions }) => otherDigest(definitions, 'tables'),
  'owners and rights of each object': ({ definitions }) => otherDigest(definitions, 'rights on tables'),
  'materialized views without content': ({ details }) =>
    void (details?.unfilledViews !== undefined && details.unfilledViews--),
  'bytes of large objects': (facts) => void (facts.largeObjectBytes !== undefined && facts.largeObjectBytes++),
  owners: ({ details }) =>
    each(details?.owned, (one) => void (one.role === 'owner' && Object.assign(one, { role: 'reader' }))),
};

/** `lifeboat drill`: restores into throwaway containers, compares, and keeps the evidence. */
describe('a drill', () => {
  let stack: Stack;
  let snapshot: string;
  let backups: string;

  const drill = async (...args: string[]) => {
    const ran = await stack.lifeboatInTurn('drill', '--json', ...args);
    return { ...ran, report: reportIn(ran) };
  };
  const result = ({ results }: DrillReport, source: string) =>
    results.find((one) => one.source === source) as DrillResult;
  const failed = ({ checks }: DrillResult) => checks.filter((check) => check.result === 'failed');

  /** When each container of the project was started. */
  const running = async () => {
    const ids = (await ok('docker', ['ps', '--quiet', '--filter', `name=${stack.project}`])).trim().split('\n').sort();
    return ok('docker', ['inspect', '--format', '{{.Name}} {{.State.StartedAt}}', ...ids]);
  };

  const options = (): StackOptions => ({
    env: SETTINGS,
    services: {
      db: postgres(17, {
        environment: { POSTGRES_DB: 'app' },
        command: ['postgres', '-c', 'fsync=off'],
        labels: {
          'lifeboat.postgres': 'true',
          'lifeboat.drill.assert': '(select count(*) from t) = 3000',
          'lifeboat.drill.assert.view': "select bool_and(v <> '') from few -- a comment",
        },
      }),
      // Its asserts are wrong, each in another way.
      bad: postgres(17, {
        command: ['postgres', '-c', 'fsync=off'],
        labels: {
          'lifeboat.postgres': 'true',
          'lifeboat.drill.assert.false': '1 > 2',
          'lifeboat.drill.assert.gone': 'select count(*) > 0 from gone',
          'lifeboat.drill.assert.hangs': 'pg_sleep(600) is null',
          'lifeboat.drill.assert.no-condition': "'yes'",
          'lifeboat.drill.assert.null': 'null::boolean',
          'lifeboat.drill.assert.several': 'true); drop table small; select (true',
          'lifeboat.drill.assert.true': '(select count(*) from small) = 2',
          'lifeboat.drill.assert.words': 'is everything well?',
          'lifeboat.drill.assert.writes': "setval('counter', 7) = 7",
        },
      }),
      web: holder(
        ['media:/data'],
        {
          'lifeboat.volumes': 'media',
          'lifeboat.drill.health': JSON.stringify(['sh', '-c', SMOKE_TEST]).replaceAll('$', '$$$$'),
        },
        { environment: { TOKEN: "it's $$a \\ token" }, depends_on: { db: { condition: 'service_healthy' } } },
      ),
    },
    volumes: { media: {} },
    agent: { volumes: ['./planted:/planted', './copy:/copy'] },
  });

  beforeAll(async () => {
    stack = await Stack.start(options());
    backups = path.join(stack.directory, 'backups');
    const inApp = (sql: string) => stack.psql(sql, { database: 'app' });
    await inApp(
      `CREATE ROLE owner; CREATE ROLE reader LOGIN; CREATE ROLE team; GRANT team TO reader;
       CREATE TABLE t (id serial PRIMARY KEY, v text CHECK (v <> ''));
       INSERT INTO t (v) SELECT md5(i::text) FROM generate_series(1, 3000) i;
       CREATE INDEX ON t (v); CREATE VIEW few AS SELECT * FROM t LIMIT 10;
       CREATE TABLE parts (at date NOT NULL, v int) PARTITION BY RANGE (at);
       CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
       INSERT INTO parts VALUES ('2026-05-05', 5); CREATE INDEX ON ONLY parts (v);
       CREATE TABLE child (t int); INSERT INTO child VALUES (1);
       ALTER TABLE child ADD FOREIGN KEY (t) REFERENCES t NOT VALID;
       SELECT lo_from_bytea(0, 'large');
       CREATE SCHEMA other; CREATE TABLE other.thing (v int); ALTER TABLE other.thing OWNER TO owner;
       GRANT USAGE ON SCHEMA other TO reader; GRANT SELECT ON t, few TO reader; GRANT UPDATE (v) ON t TO reader;
       ALTER DATABASE app SET work_mem = '7MB'; GRANT TEMP ON DATABASE app TO reader;`,
    );
    for (const name of ['early', 'late']) await stack.psql(`CREATE DATABASE ${name} TEMPLATE app OWNER owner`);
    await stack.psql('CREATE TABLE small AS SELECT 1 AS v UNION SELECT 2; CREATE SEQUENCE counter', { service: 'bad' });
    await stack.exec('web', ['sh', '-c', FILES]);
    const { report } = await stack.backup();
    expect(report.status).toBe('ok');
    snapshot = report.snapshot as string;
  });
  afterAll(() => stack?.destroy());

  /** Copies the repository, and changes the copy. Returns its path in the agent. */
  async function plant(
    name: string,
    change: (directory: string, manifest: Manifest) => Promise<void>,
  ): Promise<string> {
    const directory = path.join(stack.directory, 'planted', name);
    await cp(backups, directory, { recursive: true });
    const file = path.join(directory, stack.project, 'snapshots', snapshot, 'manifest.json');
    const { signature: _, ...manifest } = decodeManifest(await readFile(file));
    await change(directory, manifest);
    await writeFile(file, encodeManifest(manifest));
    return `/planted/${name}`;
  }

  /** Changes the recorded facts of a source. */
  async function changeFacts(
    directory: string,
    manifest: Manifest,
    source: string,
    change: (facts: PostgresFacts) => void,
  ) {
    const ref = manifest.sources[source]?.facts as { key: string; size: number; sha256: string };
    const file = path.join(directory, ref.key);
    const facts = JSON.parse(zstdDecompressSync(await readFile(file)).toString()) as PostgresFacts;
    change(facts);
    const bytes = zstdCompressSync(Buffer.from(JSON.stringify(facts)));
    await writeFile(file, bytes);
    ref.size = bytes.length;
    ref.sha256 = createHash('sha256').update(bytes).digest('hex');
  }

  it('restores every source, finds everything equal, and leaves nothing behind', async () => {
    const before = await running();
    const { code, report } = await drill('db.postgres', 'web.media', '--by', 'the auditor');
    expect(report.results.flatMap(failed)).toEqual([]);
    expect({ code, status: report.status, by: report.by }).toEqual({ code: 0, status: 'ok', by: 'the auditor' });
    const db = result(report, 'db.postgres');
    expect(db).toMatchObject({ snapshot, image: { recorded: true }, version: expect.stringMatching(/^17/) });
    expect(db.summary).toMatch(/^\d+ tables, 9,006 rows equal$/);
    const found = (name: string) => db.checks.find((one) => one.name === name && one.of === 'app') as DrillCheck;
    expect(found('rows')).toMatchObject({ result: 'ok', expected: 3002, found: 3002 });
    for (const name of ['indexes', 'owners', 'grants', 'sequence values', 'invalid indexes', 'amcheck of indexes'])
      expect({ name, result: found(name)?.result }).toEqual({ name, result: 'ok' });
    expect(found('assert')).toMatchObject({ result: 'ok', found: true });
    expect(found('assert view')).toMatchObject({ result: 'ok' });
    expect(result(report, 'web.media')).toMatchObject({
      status: 'ok',
      summary: expect.stringMatching(/^4 files, .* equal$/),
    });
    expect(await stack.helpers()).toEqual([]);
    expect(await running()).toEqual(before);
  });

  it('finds every planted fault, and only those', async () => {
    const from = await plant('records', (directory, manifest) => {
      const why = { code: 'PG_DUMP_FAILED' as const, message: 'permission denied' };
      manifest.sources['db.postgres']?.databases?.push({ name: 'lost', status: 'failed', error: why });
      return changeFacts(directory, manifest, 'db.postgres', ({ databases, ...facts }) => {
        const named = (name: string) => databases.find((one) => one.name === name) as DatabaseFacts;
        for (const change of Object.values(EARLY)) change(named('early'));
        for (const change of Object.values(LATE)) change(named('late'));
        each(facts.roles, (one) => void (one.name === 'owner' && one.memberOf.push({ group: 'team', admin: false })));
      });
    });
    const { code, report } = await drill('db.postgres', '--from', from, '--unsigned');
    expect(code).toBe(1);
    const found = failed(result(report, 'db.postgres'));
    const early = found.find(({ of }) => of === 'early')?.differences ?? [];
    expect(early).toHaveLength(Object.keys(EARLY).length);
    expect(Object.keys(EARLY).filter((words) => !early.some((one) => one.includes(words)))).toEqual([]);
    expect(found.flatMap(({ of, name }) => (of === 'late' ? [name] : [])).sort()).toEqual(Object.keys(LATE).sort());
    const others = found.filter(({ of }) => of !== 'early' && of !== 'late');
    expect(others.map(({ of, name }) => `${of}: ${name}`)).toEqual(['server: memberships']);
    expect(report.unproven).toEqual(['db.postgres: the snapshot lacks database lost (permission denied)']);
  });

  it('finds a damaged pack and a changed file', async () => {
    const from = await plant('packs', async (directory, manifest) => {
      for (const source of ['db.postgres', 'web.media']) {
        const list = manifest.sources[source]?.packs as { key: string };
        for (const { key } of await packsIn(directory, list)) {
          const bytes = await readFile(path.join(directory, key));
          bytes[Math.floor(bytes.length / 2)]! ^= 1;
          await writeFile(path.join(directory, key), bytes);
        }
      }
    });
    const { code, report } = await drill('db.postgres', 'web.media', '--from', from, '--unsigned');
    expect(code).toBe(1);
    expect(report.results.map(({ status, error }) => [status, error?.code])).toEqual([
      ['failed', 'OBJECT_DAMAGED'],
      ['failed', 'OBJECT_DAMAGED'],
    ]);
  });

  it('takes the present image if the recorded one is gone, and says so', async () => {
    const from = await plant('image', async (_, manifest) => {
      const imageDigest = `postgres@sha256:${'0'.repeat(64)}`;
      Object.assign(manifest.sources['bad.postgres'] as object, { image: `sha256:${'0'.repeat(64)}`, imageDigest });
    });
    const { report } = await drill('bad.postgres', '--from', from, '--unsigned');
    const bad = result(report, 'bad.postgres');
    expect(bad.image?.recorded).toBe(false);
    expect(bad.notes).toContainEqual(expect.stringContaining('the present image of the source is used'));
  });

  it('fails for each assert that is not true, whatever it does', async () => {
    const { code, report } = await drill('bad.postgres');
    expect(code).toBe(1);
    const bad = result(report, 'bad.postgres');
    expect(Object.fromEntries(failed(bad).map(({ name, detail }) => [name, detail]))).toEqual({
      'assert false': 'it is false',
      'assert gone': 'relation "gone" does not exist',
      'assert hangs': 'it took longer than 5s',
      'assert no-condition': expect.stringContaining('true or false'),
      'assert null': 'it is null',
      'assert several': expect.stringContaining('not an SQL expression'),
      'assert words': expect.stringContaining('not an SQL expression'),
      'assert writes': expect.stringContaining('it tries to write'),
    });
  });

  it('runs the smoke test of an application next to all restored data', async () => {
    const { code, report } = await drill('db.postgres', 'web.media', '--stack');
    expect(result(report, 'stack').checks).toEqual([{ name: 'lifeboat.drill.health', of: 'web', result: 'ok' }]);
    expect({ code, sources: report.results.map(({ source, status }) => `${source} ${status}`).sort() }).toEqual({
      code: 0,
      sources: ['db.postgres ok', 'stack ok', 'web.media ok'],
    });
    expect(await stack.helpers()).toEqual([]);
  });

  it('lets one drill at a time run, with limits', async () => {
    // Both begin now, because a drill takes only seconds.
    const one = () => stack.lifeboat('drill', 'db.postgres', '--json');
    const both = Promise.all([one(), one()]);
    const format = '{{.HostConfig.Memory}} {{.HostConfig.CpuQuota}} {{.HostConfig.CpuShares}}';
    const limitsOf = (kind: string) =>
      until('a drill restores', async () => {
        const helper = (await stack.helpers()).find((name) => name.includes(`-${kind}-`));
        const ran = helper && (await sh('docker', ['inspect', '--format', format, helper]));
        return ran && ran.code === 0 && ran.stdout;
      });
    // The server, and the programs that restore into it.
    for (const limits of await Promise.all([limitsOf('drill'), limitsOf('postgres')]))
      expect(limits).toMatch(/^2147483648 [1-9]\d+ 256\n/);
    const ended = await both;
    expect(ended.every(({ code }) => code === 0 || code === 11)).toBe(true);
    const ran = ended.flatMap(({ code, stdout }) => (code === 0 ? [JSON.parse(stdout) as DrillReport] : []));
    // The second one is refused, or waits until the first one has ended: a command waits ten seconds for the lock.
    const [first, second] = ran.toSorted((a, b) => (a.start < b.start ? -1 : 1));
    expect(first).toBeDefined();
    if (second) expect(Date.parse(second.start)).toBeGreaterThanOrEqual(Date.parse(first?.end ?? ''));
  });

  /** Kills the agent when a drill says that line, starts it again, and waits until nothing of the drill is left. */
  async function killAt(line: string, source: string): Promise<void> {
    const agent = await stack.id('lifeboat');
    const running = stack.spawn('drill', source);
    running.stdout?.resume();
    let said = '';
    running.stderr?.on('data', (text: Buffer) => {
      said += text;
    });
    await until(`the drill says: ${line}`, async () => said.includes(line), 60_000, 20);
    const volumes = (await stack.helpers()).map((name) =>
      ok('docker', ['inspect', '--format', '{{range .Mounts}}{{.Name}} {{end}}', name]).catch(() => ''),
    );
    const fresh = (await Promise.all(volumes))
      .join(' ')
      .split(/\s+/)
      .filter((name) => /^[0-9a-f]{64}$/.test(name));
    await ok('docker', ['kill', agent]);
    await ok('docker', ['start', agent]);
    await until('everything is removed', async () => (await stack.helpers()).length === 0);
    // The engine removes the volumes of a container after the container.
    for (const volume of fresh)
      await until('the volume is removed', async () => (await sh('docker', ['volume', 'inspect', volume])).code !== 0);
    await until('the spool is empty', async () =>
      (await stack.exec('lifeboat', ['sh', '-c', 'ls -A /spool/runs /spool/state/runs']))
        .split('\n')
        .every((left) => /^$|:$/.test(left)),
    );
    await until('its end is evidence', async () => {
      const { drills } = await stack.json<{ drills: DrillReport[] }>('drills');
      return drills[0]?.error?.code === 'RUN_DIED';
    });
  }

  it.each([
    ['starting a throwaway server', 'db.postgres'],
    ['restoring the databases', 'db.postgres'],
    ['comparing with the record', 'db.postgres'],
    ['restoring the files', 'web.media'],
  ])('leaves nothing behind when it is killed: %s of %s', (line, source) => killAt(line, source));

  it('reads a copy while the repository cannot be read, and its evidence comes back', async () => {
    const info = path.join(backups, 'lifeboat.json');
    await rename(info, `${info}.away`);
    let id: string;
    try {
      const { code, report } = await drill('web.media');
      const media = result(report, 'web.media');
      expect({ code, status: media.status, place: media.place }).toEqual({ code: 0, status: 'ok', place: '/copy' });
      expect(media.notes).toEqual([expect.stringMatching(/^\/backups cannot be read, so a copy is used: /)]);
      id = report.id;
    } finally {
      await rename(`${info}.away`, info);
    }
    const evidence = async () => {
      const { drills, problems } = await stack.json<{ drills: { id: string }[]; problems: unknown[] }>('drills');
      expect(problems).toEqual([]);
      return drills.map((one) => one.id);
    };
    expect(await evidence()).not.toContain(id);
    expect((await stack.lifeboatInTurn('copy')).code).toBe(0);
    expect(await evidence()).toContain(id);
    // Losing the repository loses no evidence.
    const [here, there] = await Promise.all(
      [backups, path.join(stack.directory, 'copy')].map((at) => readdir(path.join(at, stack.project, 'drills'))),
    );
    expect(there?.sort()).toEqual(here?.sort());
  });

  it('says what a snapshot that is not whole leaves unproven', async () => {
    const from = await plant('partial', async (_, manifest) => {
      const why = { code: 'PG_DUMP_FAILED' as const, message: 'permission denied' };
      Object.assign(manifest.sources['web.media'] as object, { status: 'partial', error: why });
    });
    const { code, report } = await drill('web.media', '--from', from, '--unsigned', '--snapshot', snapshot);
    expect({ code, status: report.status }).toEqual({ code: 3, status: 'unproven' });
    expect(result(report, 'web.media').checks.filter(({ result: how }) => how !== 'ok')).toEqual([]);
    expect(report.unproven).toEqual(['web.media: the snapshot lacks a part (permission denied)']);
  });

  it('keeps signed evidence in a chain, and reports on it', async () => {
    const { drills, problems } = await stack.json<{
      drills: { id: string; status: string; signature: string; results: DrillResult[] }[];
      problems: unknown[];
    }>('drills');
    expect(problems).toEqual([]);
    expect(drills.length).toBeGreaterThanOrEqual(3);
    expect(new Set(drills.map(({ signature }) => signature))).toEqual(new Set(['signed']));
    const markdown = (await stack.lifeboat('drills', '--since', '90d', '--format', 'md')).stdout;
    expect(markdown).toContain('| db.postgres |');
    const bad = drills.find(({ results }) => results.some(({ source }) => source === 'bad.postgres'))?.id as string;
    const page = (await stack.lifeboat('drills', bad, '--format', 'md')).stdout;
    expect(page).toContain(`# Restore test ${bad}`);
    expect(page).toContain('## bad.postgres: failed');
    expect(page).toContain('Not corrected yet');
    expect((await stack.lifeboat('drills', '2001')).stderr).toContain('SNAPSHOT_UNKNOWN');
    const all = (await readdir(path.join(backups, stack.project, 'drills'))).sort();
    for (const gone of [all.at(-1), all[0]] as string[]) {
      const file = path.join(backups, stack.project, 'drills', gone);
      await rename(file, `${file}.away`);
      const ran = await stack.lifeboat('drills', '--json');
      await rename(`${file}.away`, file);
      expect(ran.code).toBe(3);
      expect(JSON.parse(ran.stdout).problems.at(-1).error.code).toBe('CHAIN_BROKEN');
    }
  });

  it('runs on schedule, reports, and reports too when it cannot begin', async () => {
    const before = (await stack.objects()).filter((name) => name.includes('/drills/')).length;
    const earlier = stack.receiver?.requests.length;
    await stack.write({
      ...options(),
      env: { ...SETTINGS, LIFEBOAT_DRILL: 'schedule', LIFEBOAT_DRILL_SCHEDULE: '* * * * *' },
    });
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
    const told = (words: RegExp) => async () =>
      stack.receiver?.requests
        .slice(earlier)
        .find(({ path: at, body }) => at.startsWith('/services/') && words.test(body));
    // The conditions of one server are wrong.
    const failure = await until('the scheduled drill is reported', told(/drill failed in/), 400_000);
    expect(failure.body).toContain('bad.postgres');
    expect((await stack.objects()).filter((name) => name.includes('/drills/')).length).toBeGreaterThan(before);
    const { drills } = await stack.json<{ drills: { trigger: string; status: string }[] }>('drills');
    expect(drills[0]).toMatchObject({ trigger: 'schedule', status: 'failed' });
    for (const at of [backups, path.join(stack.directory, 'copy')])
      await rename(path.join(at, 'lifeboat.json'), path.join(at, 'away.json'));
    const unbegun = await until(
      'the next drill is reported',
      told(/drill failed in.*0 sources.*DEST_FOREIGN/s),
      400_000,
    );
    expect(unbegun.body).toContain('lifeboat drills');
  });
});

/** Succeeds only next to restored data: with the files, the variables, and a server under the name of the database. */
const SMOKE_TEST = `test "$(cat /data/a/one)" = one && test "$TOKEN" = "it's \\$a \\\\ token" && touch /data/new &&
  node -e 'require("net").connect(5432, "db").once("connect", () => process.exit(0)).once("error", () => process.exit(1))' &&
  ! node -e 'require("net").connect(53, "1.1.1.1").once("connect", () => process.exit(0)).once("error", () => process.exit(1))'`;

const FILES = `cd /data && mkdir -p a/b && echo one > a/one && head -c 300000 /dev/urandom > a/b/two && ln -s ../one a/b/link &&
ln a/one a/hard && touch empty && chown 33:33 a/one && chmod 600 a/b/two`;

function reportIn({ stdout, stderr }: Ran): DrillReport {
  try {
    return JSON.parse(stdout) as DrillReport;
  } catch {
    throw new Error(`drill gave no report:\n${stdout}\n${stderr}`);
  }
}
