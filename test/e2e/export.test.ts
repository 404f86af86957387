import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { holder, ok, postgres, Stack, sh } from '../harness/stack.ts';

const FILL = `
  set -e; cd /media
  mkdir -p photos/2024 empty; head -c 2500000 /dev/urandom > photos/2024/large.jpg; printf 'same' > photos/small
  ln -s ../photos/small empty/link; ln photos/small photos/hard; printf x > "$(printf 'latin\\351')"
  chown 33:33 . photos/small; chmod 0640 photos/small; chmod 2775 .; touch -d '2020-02-02 02:02:02.5' photos/small
`;

const LISTING =
  "cd $0 && (find . -printf '%P|%y|%m|%U:%G|%T@|%l\\n' | sort; find . -type f -exec sha256sum {} + | sort) | grep -v lifeboat-before";

/** Exported files work with the standard programs of each kind. */
describe('export', () => {
  let stack: Stack;
  let base: string;
  const exported = (name: string) => path.join(base, name);

  beforeAll(async () => {
    base = await mkdtemp(path.join(tmpdir(), 'export-'));
    stack = await Stack.start({
      services: {
        db: postgres(17, { environment: { POSTGRES_DB: 'shop' } }),
        fresh: postgres(17, { labels: {}, volumes: ['./given:/given'] }),
        web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }),
      },
      volumes: { media: {} },
      // Exports are unencrypted, and imports are encrypted and signed.
      env: {
        LIFEBOAT_GPG_PASSPHRASE: 'canary-gpg-passphrase',
        LIFEBOAT_SIGNING_KEY: 'canary-signing-key-0123456789abcdef',
      },
      receiver: false,
    });
    await stack.psql(
      `CREATE ROLE keeper LOGIN PASSWORD 'canary-role-password'; CREATE TABLE orders (id int PRIMARY KEY, v text);
       INSERT INTO orders SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 5000) i; ALTER TABLE orders OWNER TO keeper;
       SELECT lo_from_bytea(4711, 'large'); ALTER DATABASE shop SET work_mem = '7MB';
       CREATE DATABASE "odd 'name"`,
      { database: 'shop' },
    );
    await stack.psql('CREATE TABLE t AS SELECT 1 AS one', { database: "odd 'name" });
    await stack.exec('web', ['bash', '-s'], FILL);
    const { report } = await stack.backup();
    expect(report.status, JSON.stringify(report)).toBe('ok');
  });
  afterAll(async () => {
    await stack?.destroy();
    await rm(base, { recursive: true, force: true });
  });

  /** Writes the archive to a file on the host, as with a shell redirection. */
  const send = (file: string, ...args: string[]) =>
    sh('sh', ['-c', 'exec docker exec "$0" lifeboat export "$@" > "$OUT"', `${stack.project}-lifeboat-1`, ...args], {
      env: { ...process.env, OUT: file },
    });

  it('a database export loads with standard Postgres programs, exactly as its README says', async () => {
    const sent = await send(exported('db.zip'), 'latest', 'db.postgres');
    expect(sent.code, sent.stderr).toBe(0);
    expect(sent.stderr).toMatch(/Exported \d+ files, .*all verified against their recorded hashes/);
    await ok('unzip', ['-q', exported('db.zip'), '-d', path.join(stack.directory, 'given')]);
    const readme = await ok('cat', [path.join(stack.directory, 'given/README.txt')]);
    const commands = readme.split('\n').filter((line) => /^ {3}(psql|pg_restore|createdb|vacuumdb) /.test(line));
    expect(commands.length).toBeGreaterThanOrEqual(5);
    const script = ['set -e', 'cd /given', 'export PGUSER=postgres', ...commands].join('\n');
    await stack.exec('fresh', ['sh', '-s'], script);
    const ask = (sql: string, database: string) => stack.psql(sql, { service: 'fresh', database });
    const count = "SELECT count(*) || ' ' || md5(string_agg(v, '' ORDER BY id)) FROM orders";
    expect(await ask(count, 'shop')).toBe(await stack.psql(count, { database: 'shop' }));
    // The first of these is listed under another name.
    expect(await ask('SELECT one FROM t', 'other_name')).toBe('1');
    expect(await ask("SELECT tableowner FROM pg_tables WHERE tablename = 'orders'", 'shop')).toBe('keeper');
    expect(await ask('SHOW work_mem', 'shop')).toBe('7MB');
    expect(await ask('SELECT one FROM t', "odd 'name")).toBe('1');
    const password = "SELECT rolpassword FROM pg_authid WHERE rolname = 'keeper'";
    expect(await ask(password, 'postgres')).toBe(await stack.psql(password));
  });

  it('a volume export can be unpacked with unzip, Python and tar', async () => {
    for (const format of ['zip', 'tar']) {
      const sent = await send(exported(`media.${format}`), 'latest', 'web.media', '--format', format);
      expect(sent.code, sent.stderr).toBe(0);
      expect(sent.stderr).toContain('1 name that an archive cannot carry');
    }
    const there = await stack.exec('web', ['sh', '-c', LISTING, '/media']);
    await mkdir(exported('tar'));
    await ok('tar', ['-xpf', exported('media.tar'), '-C', exported('tar')]);
    const sums = (text: string) => text.split('\n').filter((line) => !/latin/.test(line));
    expect(sums(await ok('sh', ['-c', LISTING, exported('tar')]))).toEqual(sums(there));
    await ok('unzip', ['-q', exported('media.zip'), '-d', exported('zip')]);
    await ok('python3', ['-m', 'zipfile', '-e', exported('media.zip'), exported('python')]);
    for (const name of ['zip', 'python']) {
      await ok('cmp', ['photos/2024/large.jpg', path.join(exported('tar'), 'photos/2024/large.jpg')], {
        cwd: exported(name),
      });
    }
    expect(await ok('readlink', [path.join(exported('zip'), 'empty/link')])).toBe('../photos/small\n');
    const part = await send(exported('part.zip'), 'latest', 'web.media', 'photos/2024');
    expect(part.code, part.stderr).toBe(0);
    expect(await ok('unzip', ['-Z1', exported('part.zip')])).toBe('photos/\nphotos/2024/\nphotos/2024/large.jpg\n');
  });

  it('a file in the container is complete under its name, and never replaced without a request', async () => {
    const to = ['--to', '/backups/media.zip'];
    const made = await stack.lifeboat('export', 'latest', 'web.media', ...to, '--json');
    expect(made.code, made.stderr).toBe(0);
    expect(JSON.parse(made.stdout)).toMatchObject({ source: 'web.media', archive: 'zip', files: 4 });
    await ok('unzip', ['-tqq', path.join(stack.directory, 'backups/media.zip')]);
    const again = await stack.lifeboat('export', 'latest', 'web.media', ...to);
    expect(again.code).toBe(1);
    expect(again.stderr).toContain('FILE_EXISTS');
    expect((await stack.lifeboat('export', 'latest', 'web.media', ...to, '--overwrite')).code).toBe(0);
    for (const bad of [`/backups/${stack.project}/x.zip`]) {
      const refused = await stack.lifeboat('export', 'latest', 'web.media', '--to', bad, '--overwrite');
      expect([refused.code, refused.stderr], bad).toEqual([1, expect.stringContaining('TREE_TARGET_REFUSED')]);
    }
    const typed = await stack.terminal(['export', 'latest', 'web.media']);
    expect(await typed.ended).toBe(2);
  });

  const bring = (file: string, ...args: string[]) =>
    sh(
      'sh',
      ['-c', 'exec docker exec -i "$0" lifeboat import - "$@" --json < "$IN"', `${stack.project}-lifeboat-1`, ...args],
      {
        env: { ...process.env, IN: exported(file) },
      },
    );

  it('an export can be imported as a snapshot of its time, and never counts as the latest', async () => {
    const encrypt = 'gpg --batch --pinentry-mode loopback --passphrase canary-gpg-passphrase --symmetric';
    await ok('sh', ['-c', `zstd -q < media.tar | GNUPGHOME=. ${encrypt} > media.tar.zst`], { cwd: base });
    const before = await stack.exec('web', ['sh', '-c', LISTING, '/media']);
    const brought = await bring('media.tar.zst', 'web.media', '--at', '2024-05-01T03:00Z');
    expect(brought.code, brought.stderr).toBe(0);
    const made = JSON.parse(brought.stdout) as { snapshot: string; at: string; files: number; newBytes: number };
    // All content was already in the repository.
    expect(made).toMatchObject({ at: '2024-05-01T03:00:00.000Z', files: 4, newBytes: 0, warnings: [] });
    const { snapshots } = await stack.json<{ snapshots: { id: string; imported?: object; pinned?: string }[] }>(
      'snapshots',
    );
    expect(snapshots.map(({ imported }) => imported !== undefined)).toEqual([true, false]);
    expect(snapshots[0]).toMatchObject({ id: made.snapshot, trigger: 'import', pinned: 'imported from stdin' });
    expect((await stack.lifeboat('snapshots')).stdout).toMatch(/import, state of 2024-05-01 03:00:00Z.*pinned/);
    const latest = await stack.lifeboat('restore', 'latest', 'web.media', '--dry-run');
    expect(latest.stderr + latest.stdout).toContain(snapshots[1]?.id);
    const { sources } = await stack.json<{ sources: { name: string; lastGood: { snapshot: string } }[] }>('status');
    expect(sources.find(({ name }) => name === 'web.media')?.lastGood.snapshot).toBe(snapshots[1]?.id);
    await stack.exec('web', ['sh', '-c', 'rm -rf /media/photos; chmod 700 /media; echo new > /media/other']);
    const restored = await stack.lifeboat('restore', made.snapshot, 'web.media', '--yes', '--no-safety');
    expect(restored.code, restored.stderr).toBe(0);
    expect(await stack.exec('web', ['sh', '-c', LISTING, '/media'])).toBe(before);
    // With a file of the export at its top.
    const check = await stack.lifeboat('check');
    expect(check.code, check.stdout + check.stderr).toBe(0);
    // A zip file has no owners. The top directory is as in the last snapshot.
    const zip = await bring('media.zip', 'web.media', '--at', '2024-06-01T03:00Z');
    expect(zip.code, zip.stderr).toBe(0);
    expect((await bring('media.zip', 'web.media')).code).toBe(2);
    // One directory more than the source has, as in `tar -cf backup.tar data`.
    await ok('sh', ['-c', 'mkdir -p deep/data && tar -xf media.tar -C deep/data && tar -cf deep.tar -C deep ./data'], {
      cwd: base,
    });
    const warnings = async (...options: string[]) => {
      const { stdout } = await bring('deep.tar', 'web.media', '--at', '2024-05-01T03:00Z', ...options);
      return (JSON.parse(stdout) as { warnings: string[] }).warnings.join('\n');
    };
    expect(await warnings()).toMatch(/below data\/, which web\.media does not have: .* import again with --strip 1$/m);
    expect(await warnings('--strip', '1')).not.toContain('--strip');
    const hostile = path.join(base, 'hostile.tar');
    await ok('tar', ['-cPf', hostile, '--transform', 's|.*|../../evil|', '/etc/hostname']);
    const refused = await bring('hostile.tar', 'web.media', '--at', '2024-05-01T03:00Z');
    expect([refused.code, refused.stdout]).toEqual([1, expect.stringContaining('IMPORT_REFUSED')]);
    expect((await stack.json<{ snapshots: object[] }>('snapshots')).snapshots).toHaveLength(5);
  });

  it('a database export can be imported too', async () => {
    const brought = await bring('db.zip', 'db.postgres', '--at', '2024-05-01T03:00Z');
    expect(brought.code, brought.stderr + brought.stdout).toBe(0);
    const made = JSON.parse(brought.stdout) as { snapshot: string };
    const count = "SELECT count(*) || ' ' || md5(string_agg(v, '' ORDER BY id)) FROM orders";
    const before = await stack.psql(count, { database: 'shop' });
    await stack.psql('DELETE FROM orders WHERE id > 10', { database: 'shop' });
    const options = ['--database', 'shop', '--to-database', 'shop_then'];
    const restored = await stack.lifeboat('restore', made.snapshot, 'db.postgres', ...options, '--yes');
    expect(restored.code, restored.stderr + restored.stdout).toBe(0);
    expect(await stack.psql(count, { database: 'shop_then' })).toBe(before);
  });

  it('dumps of pg_dump and pg_dumpall become snapshots, and their SQL never reaches the server', async () => {
    const db = `${stack.project}-db-1`;
    const count = "SELECT count(*) || ' ' || md5(string_agg(v, '' ORDER BY id)) FROM orders";
    await stack.psql(
      `CREATE ROLE reader; GRANT SELECT ON orders TO reader; CREATE SCHEMA "Odd schema" AUTHORIZATION reader`,
      { database: 'shop' },
    );
    const before = await stack.psql(count, { database: 'shop' });
    const evil = "COPY (SELECT 1) TO PROGRAM 'touch /tmp/evil';\n\\! touch /tmp/evil\n";
    const dump = 'docker exec "$0" pg_dump -U postgres shop';
    await ok(
      'sh',
      [
        '-c',
        `${dump} -Fc > custom.dump; { printf "$1"; ${dump}; } | gzip > old.sql.gz; docker exec "$0" pg_dumpall -U postgres > all.sql
         gunzip -c old.sql.gz > old.sql; half() { echo $(( $(stat -c %s "$1") / 2 )); }
         head -c $(half old.sql) old.sql | gzip > cut.sql.gz; head -c $(half custom.dump) custom.dump > cut.dump
         head -c $(half old.sql.gz) old.sql.gz > cut-gzip.sql.gz
         # Every statement is there, and only the comment at the end is missing.
         sed '/dump complete/,$d' old.sql > endless.sql
         ${dump} | sed 's/^CREATE TABLE public.orders (/CREATE TABLE public.orders (nothing no_such_type, /' > broken.sql
         printf 'SELECT 1;\n-- PostgreSQL database dump complete\n' > empty.sql`,
        db,
        evil,
      ],
      { cwd: base },
    );
    const at = ['--at', '2024-05-02T03:00Z'];
    for (const [file, options, name] of [
      ['custom.dump', [], 'shop'],
      ['old.sql.gz', ['--database', 'old name'], 'old name'],
      ['all.sql', [], 'shop'],
    ] as const) {
      const brought = await bring(file, 'db.postgres', ...at, ...options);
      expect(brought.code, file + brought.stderr + brought.stdout).toBe(0);
      const { snapshot } = JSON.parse(brought.stdout) as { snapshot: string };
      const to = `from_${file.replaceAll('.', '_')}`;
      const wanted = ['--database', name, '--to-database', to, '--yes'];
      const restored = await stack.lifeboat('restore', snapshot, 'db.postgres', ...wanted);
      expect(restored.code, restored.stderr + restored.stdout).toBe(0);
      expect(await stack.psql(count, { database: to }), file).toBe(before);
      const rights = `SELECT tableowner || has_table_privilege('reader', 'orders', 'SELECT') FROM pg_tables WHERE tablename = 'orders'`;
      expect(await stack.psql(rights, { database: to }), file).toBe('keepertrue');
      expect(
        await stack.psql("SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'Odd schema'", { database: to }),
      ).toBe('reader');
    }
    const broken = await bring('broken.sql', 'db.postgres', ...at);
    expect([broken.code, broken.stdout]).toEqual([
      3,
      expect.stringMatching(/no_such_type.*does not exist.*IMPORT_INCOMPLETE/s),
    ]);
    const stored = (await stack.json<{ snapshots: object[] }>('snapshots')).snapshots.length;
    for (const file of ['cut.sql.gz', 'cut-gzip.sql.gz', 'endless.sql', 'cut.dump', 'empty.sql']) {
      const refused = await bring(file, 'db.postgres', ...at);
      expect([refused.code, refused.stdout], file).toEqual([1, expect.stringMatching(/IMPORT_(REFUSED|UNREADABLE)/)]);
    }
    expect((await stack.json<{ snapshots: object[] }>('snapshots')).snapshots).toHaveLength(stored);
    expect((await sh('docker', ['exec', db, 'test', '-e', '/tmp/evil'])).code).toBe(1);
    expect(await ok('docker', ['ps', '-aq', '--filter', `label=dev.lifeboat.project=${stack.project}`])).toBe('');
  }, 600_000);

  it('damaged content fails the export: no file, and an exit status that says so', async () => {
    const packs = (await stack.objects()).filter((name) => name.includes('/packs/web.media/'));
    for (const pack of packs) {
      await ok('sh', [
        '-c',
        'printf XXXX | dd of="$0" bs=1 seek=200 conv=notrunc status=none',
        path.join(stack.directory, 'backups', pack),
      ]);
    }
    const failed = await stack.lifeboat('export', 'latest', 'web.media', '--to', '/backups/bad.zip');
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(/cannot be exported.*OBJECT_DAMAGED/s);
    expect((await readdir(path.join(stack.directory, 'backups'))).filter((name) => /bad|part/.test(name))).toEqual([]);
    const sent = await send(exported('bad.tar'), 'latest', 'web.media', '--format', 'tar');
    expect(sent.code).toBe(1);
    expect((await sh('tar', ['-tf', exported('bad.tar')])).code).not.toBe(0);
  });
});
