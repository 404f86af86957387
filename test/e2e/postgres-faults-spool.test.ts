import { afterEach, describe, expect, it } from 'vitest';
import { postgres, Stack } from '../harness/stack.ts';
import { askRestored, expectFailedCleanly, expectNextRunGood, remember } from './outcome.ts';

const ASK = 'SELECT count(*), sum(id) FROM t';

/** A table of about 48 MB in 16 pieces that does not compress, so its dump is larger than the estimate. */
const NOISE = `CREATE TABLE noise (id int, v bytea); ALTER TABLE noise ALTER v SET STORAGE EXTERNAL;
  INSERT INTO noise SELECT i, (SELECT string_agg(decode(md5(random()::text || i || j), 'hex'), '')
    FROM generate_series(1, 512) j) FROM generate_series(1, 6000) i;`;

/** Starts a stack whose spool is a tmpfs of `mib` MiB, with one good snapshot of a small database. */
async function small(spoolMiB: number): Promise<{ stack: Stack; good: string }> {
  const tmpfs = { type: 'tmpfs', device: 'tmpfs', o: `size=${spoolMiB}m` };
  const stack = await Stack.start({
    services: { db: postgres(17) },
    volumes: { spool: { driver: 'local', driver_opts: tmpfs } },
  });
  await stack.psql('CREATE DATABASE app');
  await stack.psql('CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 500)', {
    database: 'app',
  });
  return { stack, good: (await expectNextRunGood(stack)).id };
}

describe('a spool that is too small', () => {
  let stack: Stack | undefined;
  afterEach(async () => {
    await stack?.destroy();
    stack = undefined;
  });

  it.each([
    ['is detected before the dump begins', 30, /^the spool has [\d.]+ MiB free, the dump may need [\d.]+ MiB$/],
    ['and fills up during the dump, fails the run cleanly', 44, /^no space left in the spool while dumping app$/],
  ])('%s', async (_, spoolMiB, message) => {
    const made = await small(spoolMiB);
    stack = made.stack;
    await stack.psql(NOISE, { database: 'app' });
    const before = await remember(stack);
    const ran = await stack.backup();
    await expectFailedCleanly(stack, before, ran, { code: 'SPOOL_FULL' });
    const error = ran.report.results[0]?.error;
    expect(error?.message).toMatch(message);
    expect(error?.hint).toContain('/spool');

    expect(await askRestored(stack, made.good, 'app', ASK)).toBe('500|125250');
    // A restore needs the size of the dump in the spool. It says so beforehand, and begins only if there is room.
    await stack.psql('DELETE FROM noise WHERE id > 1000', { database: 'app' });
    await stack.psql('VACUUM FULL noise', { database: 'app' });
    const { id } = await expectNextRunGood(stack);
    const restore = ['restore', id, 'db.postgres', '--database', 'app'];
    const shown = await stack.lifeboat(...restore, '--dry-run');
    expect(shown.stderr).toMatch(
      /reads +at most 8\.\d MiB · needs .* in \S+-db-1, has .* · needs 8\.\d MiB free in \/spool, has/,
    );
    const fill = 'n=$(stat -f -c %a /spool); dd if=/dev/zero of=/spool/ballast bs=4096 count=$((n - 1000)) status=none';
    await stack.exec('lifeboat', ['sh', '-c', fill]);
    for (const args of [
      restore,
      [...restore, '--yes'],
      ['restore', id, 'db.postgres', '--table', 'noise', '--as', 'n2'],
    ]) {
      const refused = await stack.lifeboat(...args);
      expect([refused.code, refused.stderr], args.join(' ')).toEqual([
        1,
        expect.stringMatching(/the spool has 3\.\d MiB free, and the restore needs 8\.\d MiB there.*SPOOL_FULL/s),
      ]);
    }
    await stack.exec('lifeboat', ['rm', '/spool/ballast']);
    await expectNextRunGood(stack);
  });

  it('has room for a compressed dump only, which is known once an uncompressed one has become too large', async () => {
    const made = await small(1200);
    stack = made.stack;
    // The server stores these values compressed: the table has a few MB, and its dump 1 GB.
    const values = "INSERT INTO squeezed SELECT i, repeat('x', 50000000) FROM generate_series(1, 20) i";
    await stack.psql(`CREATE TABLE squeezed (id int, v text); ${values}`, { database: 'app' });
    const report = await expectNextRunGood(stack);
    expect(report.results[0]).toMatchObject({ status: 'ok' });
    const { facts } = await stack.json<{ facts: { compression: string } }>('show', 'latest', 'db.postgres');
    expect(facts.compression).toBe('zstd');
    // The earlier snapshot has an uncompressed dump.
    for (const id of [report.id, made.good]) expect(await askRestored(stack, id, 'app', ASK)).toBe('500|125250');
  });
});
