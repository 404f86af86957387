import { readdir, readFile, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { LifeboatError } from '../base/errors.ts';
import { readEntries } from '../sources/postgres/archive/restore-passes.ts';
import type { PostgresFacts } from '../sources/postgres/facts/facts.ts';
import { summarise } from '../sources/postgres/facts/summary.ts';
import { databaseDirectory } from '../sources/postgres/server/quote.ts';
import { refuseStrangeFiles } from '../sources/postgres/strange-files.ts';
import type { CapturedTree } from '../sources/source.ts';
import { refused, unreadable } from '../store/archive/import-errors.ts';

/** The version of `manifest.json` in an export that is known here. */
const FORMAT = 1;

const names = z.array(
  z
    .object({
      schema: z.string(),
      name: z.string(),
      owner: z.string(),
      rows: z.number(),
      exact: z.boolean(),
      bytes: z.number(),
    })
    .loose(),
);

/** The facts that a restore uses. They are claims of the file: the restore compares all of them with what it loads. */
const manifest = z.object({
  format: z.literal(FORMAT),
  kind: z.literal('lifeboat export'),
  source: z.string(),
  snapshot: z.string(),
  end: z.iso.datetime(),
  facts: z
    .object({
      kind: z.literal('postgres'),
      server: z.object({ version: z.string(), versionNumber: z.number() }).loose(),
      compression: z.enum(['zstd', 'none']),
      databases: z
        .array(
          z
            .object({
              ...{
                name: z.string().min(1),
                owner: z.string(),
                encoding: z.string(),
                collate: z.string(),
                ctype: z.string(),
              },
              ...{ provider: z.string(), connectionLimit: z.number(), size: z.number(), largeObjects: z.number() },
              contents: z.enum(['nothing', 'extensions', 'data']),
              settings: z.array(z.object({ role: z.string().nullable(), config: z.array(z.string()) })),
              grants: z.array(z.object({ privilege: z.enum(['CREATE', 'TEMPORARY', 'CONNECT']) }).loose()).nullable(),
              extensions: z.array(z.object({ name: z.string(), version: z.string(), schema: z.string() })),
              owners: z.array(z.string()),
              tables: names,
            })
            .loose(),
        )
        .min(1),
    })
    .loose(),
});

/**
 * Turns an unpacked export into the tree of a Postgres source: removes what does not belong to the tree, and checks
 * that the rest is complete. No server is contacted. A restore later compares every table with the record.
 *
 * @param root the unpacked export
 * @throws IMPORT_UNREADABLE, IMPORT_REFUSED
 */
export async function databasesOf(root: string): Promise<CapturedTree> {
  await refuseStrangeFiles(root, 'IMPORT_REFUSED').catch((error: unknown) => {
    const what = error instanceof LifeboatError ? error.message : String(error);
    throw refused(`the archive is not an export of databases: ${what}`, { hint: HOW });
  });
  const { facts, source, snapshot, end } = await readManifest(root);
  const expected = new Map(facts.databases.map(({ name }) => [databaseDirectory(name), name]));
  if (expected.size !== facts.databases.length) throw unreadable('the manifest of the export names a database twice');
  for (const name of ['manifest.json', 'README.txt']) await rm(path.join(root, name), { force: true });
  await expectOnly(root, new Set(['databases', 'globals.sql']));
  await expectOnly(path.join(root, 'databases'), new Set(expected.keys()));
  for (const [directory, name] of expected) await expectDump(path.join(root, 'databases', directory), name);
  const rows = facts.databases
    .flatMap(({ tables }) => tables)
    .reduce((sum, { rows, data }) => sum + (data === false ? 0 : rows), 0);
  const recorded: PostgresFacts = { ...facts, rows };
  return {
    ...{ root, reach: { kind: 'here' }, include: [], exclude: [] },
    facts: recorded,
    summary: summarise(recorded, []),
    warnings: [`from an export of ${source} of snapshot ${snapshot}, of ${end}`],
    databases: facts.databases.map(({ name }) => ({ name })),
  };
}

/** Bytes. The record of 100,000 tables takes a quarter of it. */
const MAX_MANIFEST = 64 * 1024 * 1024;

async function readManifest(root: string): Promise<Omit<z.infer<typeof manifest>, 'facts'> & { facts: PostgresFacts }> {
  const file = path.join(root, 'manifest.json');
  const size = await stat(file).then(
    ({ size }) => size,
    (error: unknown) => {
      throw unreadable('the archive is not an export of databases: it has no manifest.json', error, HOW);
    },
  );
  if (size > MAX_MANIFEST) throw refused('the manifest.json of the export is too large', { hint: HOW });
  const text = await readFile(file, 'utf8');
  try {
    const { facts, ...rest } = manifest.parse(JSON.parse(text));
    return { ...rest, facts: facts as unknown as PostgresFacts };
  } catch (error) {
    throw unreadable('the manifest.json of the export cannot be read', error, HOW);
  }
}

const HOW =
  'For a database source, import a zip or tar of `lifeboat export`, or a file of pg_dump (plain or custom format) or pg_dumpall by itself, not inside an archive.';

async function expectOnly(directory: string, names: ReadonlySet<string>): Promise<void> {
  const there = await readdir(directory).catch(() => [] as string[]);
  const missing = [...names].find((name) => !there.includes(name));
  if (missing !== undefined) throw unreadable(`the export lacks ${JSON.stringify(missing)}`);
  const extra = there.find((name) => !names.has(name));
  if (extra !== undefined) throw refused(`the export holds ${JSON.stringify(extra)}, which its manifest does not name`);
}

const SUFFIXES = ['', '.zst', '.gz', '.lz4'];

/** Checks that every file that the table of contents names exists. */
async function expectDump(directory: string, database: string): Promise<void> {
  const there = new Set(await readdir(directory));
  const entries = await readEntries(directory).catch((error: unknown) => {
    if (error instanceof LifeboatError || there.has('toc.dat'))
      throw unreadable(`the dump of ${database} cannot be read`, error);
    throw unreadable(`the dump of ${database} has no toc.dat`, error);
  });
  const missing = entries.find(({ file }) => file !== '' && !SUFFIXES.some((suffix) => there.has(file + suffix)));
  if (missing)
    throw unreadable(`a content is missing in the dump of ${database}: that of ${missing.schema}.${missing.tag}`);
}
