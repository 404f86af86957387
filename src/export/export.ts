import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../base/errors.ts';
import { presentName } from '../kept/target.ts';
import type { Plan } from '../plan/model.ts';
import type { Dispatcher } from '../report/dispatch.ts';
import { formatAgo, plural } from '../report/format.ts';
import type { ReadingOptions } from '../report/restore-command.ts';
import { findSnapshot } from '../restore/find.ts';
import { checkPaths } from '../restore/paths.ts';
import { withLookDirectory } from '../run/spool.ts';
import type { PostgresFacts } from '../sources/postgres/facts/facts.ts';
import { databaseDirectory } from '../sources/postgres/server/quote.ts';
import { type ArchiveFormat, ArchiveWriter } from '../store/archive/archive-writer.ts';
import { type ExportedTree, exportTree } from '../store/archive/export-tree.ts';
import { selectByGlobs } from '../store/filesystem/glob.ts';
import { readIndexFileLines } from '../store/filesystem/read-index.ts';
import { heldAt, type Manifest, type ManifestSource, withKeyId } from '../store/objects/manifest.ts';
import type { PackRef } from '../store/packs/pack-stream.ts';
import { readPacks } from '../store/repository/pack-lists.ts';
import type { Repository } from '../store/repository/repository.ts';
import { requireKeys } from '../store/seal/encryption.ts';
import { readmeOf } from './readme.ts';
import type { ExportTarget } from './target.ts';

/** The dependencies of an export. */
interface ExportDeps {
  /** directory of runs inside the spool */
  runs: string;
  now(): Date;
  repository(): Promise<Repository>;
  plan(): Promise<Plan>;
  dispatcher: Dispatcher;
}

export interface ExportRequest extends ReadingOptions {
  /** `latest`, a snapshot's id or the start of one */
  snapshot: string;
  source: string;
  /** a path, directory or glob; absent: everything */
  path?: string;
  format: ArchiveFormat;
  unsigned: boolean;
  /** Opens the target. Called after all checks that are possible before the first byte. */
  open(): Promise<ExportTarget>;
  signal: AbortSignal;
  /** receives lines for people about the progress */
  say(line: string): void;
}

export interface ExportReport extends ExportedTree {
  snapshot: string;
  source: string;
  /** the form of the archive */
  archive: ArchiveFormat;
  /** bytes of the archive */
  size: number;
  warnings: string[];
}

/** Version of the `manifest.json` in an export. */
const EXPORT_FORMAT = 1;

/**
 * Writes a source of a snapshot as a plain zip or tar. It only reads, so it takes neither lock nor lease. Damage ends
 * it. Then there is no file, or the output is not a valid archive.
 *
 * Errors: SNAPSHOT_UNKNOWN, SOURCE_UNKNOWN, SIGNATURE_*, CHAIN_BROKEN, KEY_MISSING, KEY_WRONG, PATH_UNKNOWN,
 * OBJECT_MISSING, OBJECT_DAMAGED, SPOOL_FULL; those of the target; OUTPUT_FAILED
 */
export async function exportSource(deps: ExportDeps, request: ExportRequest): Promise<ExportReport> {
  const { source, signal } = request;
  const repository = await deps.repository();
  const { snapshot, entry, notes } = await findSnapshot(repository, {
    ...request,
    storedAs: request.snapshot === 'latest' ? await presentName(deps.plan, source) : undefined,
  });
  const { index, facts } = entry;
  if (!index) throw new LifeboatError('OBJECT_MISSING', `snapshot ${snapshot.id} has no index of ${source}`);
  const packs = await readPacks(repository, entry, signal);
  requireKeys([index, facts, ...packs], repository.keys);
  await repository.checkObjects([index, facts, ...packs]);
  request.say(`Export ${source} from ${snapshot.id} (${formatAgo(new Date(heldAt(snapshot)), deps.now())})`);
  for (const note of notes) request.say(`  ${note}`);
  for (const warning of entry.warnings) request.say(`  warning, recorded then: ${warning}`);
  return withLookDirectory(deps.runs, async (directory) => {
    const indexPath = path.join(directory, 'index.ndjson');
    await repository.fetchIndex(withKeyId(index, entry), indexPath, signal);
    const globs = request.path === undefined ? [] : [request.path];
    await checkPaths(globs, indexPath);
    const found: Found = { repository, snapshot, entry, packs, notes, indexPath, spool: path.join(directory, 'packs') };
    await mkdir(found.spool, { mode: 0o700 });
    const target = await request.open();
    try {
      const report = await write(deps, request, found, target);
      await target.commit();
      return report;
    } catch (error) {
      await target.discard();
      throw signal.aborted ? signal.reason : error;
    }
  });
}

interface Found {
  repository: Repository;
  snapshot: Manifest;
  entry: ManifestSource;
  packs: PackRef[];
  notes: readonly string[];
  indexPath: string;
  spool: string;
}

async function write(
  deps: ExportDeps,
  request: ExportRequest,
  found: Found,
  target: ExportTarget,
): Promise<ExportReport> {
  const { source, format, signal } = request;
  const { repository, snapshot, entry, packs } = found;
  const writer = await ArchiveWriter.open(format, target, signal);
  try {
    if (entry.kind === 'postgres') await describeDatabases(request, found, writer);
    const tree = await exportTree({
      index: readIndexFileLines(found.indexPath),
      packs,
      destination: repository.destination,
      keys: repository.keys,
      writer,
      ...selection(request, entry),
      spool: found.spool,
      signal,
      progress: (update) =>
        deps.dispatcher.emit({ type: 'progress', progress: { source, phase: 'exporting', ...update } }),
    });
    await writer.finish();
    const report = { snapshot: snapshot.id, source, archive: format, size: writer.written };
    return { ...report, ...tree, warnings: warningsOf(tree, writer) };
  } catch (error) {
    await writer.abandon(error);
    throw error;
  }
}

function selection({ path: glob }: ExportRequest, { kind }: ManifestSource) {
  if (glob === undefined) return {};
  // Without roles no database loads.
  return { select: selectByGlobs(kind === 'postgres' ? [glob, 'globals.sql'] : [glob]) };
}

/** The first entries of an export: a README that says how to load the data, and the recorded facts. */
async function describeDatabases(request: ExportRequest, found: Found, writer: ArchiveWriter): Promise<void> {
  const { snapshot, entry, repository, notes } = found;
  const { source } = request;
  if (!entry.facts) throw new LifeboatError('OBJECT_MISSING', `snapshot ${snapshot.id} has no facts of ${source}`);
  const facts = (await repository.readFacts(withKeyId(entry.facts, entry))) as PostgresFacts;
  const { select = () => true } = selection(request, entry);
  const databases = facts.databases.filter(({ name }) => {
    const directory = `databases/${databaseDirectory(name)}`;
    return select(directory, true) || select(`${directory}/toc.dat`, false);
  });
  const { id, project, end, agentVersion } = snapshot;
  const about = { format: EXPORT_FORMAT, kind: 'lifeboat export', source, snapshot: id, project, end, agentVersion };
  const manifest = { ...about, facts: { ...facts, databases } };
  const files = {
    'README.txt': readmeOf({ snapshot, source, facts, databases, notes }),
    'manifest.json': `${JSON.stringify(manifest, undefined, 2)}\n`,
  };
  const mtime = BigInt(Date.parse(end)) * 1_000_000n;
  for (const [name, text] of Object.entries(files)) {
    const content = Buffer.from(text);
    const shared = { type: 'file', mode: 0o644, uid: 0, gid: 0, mtime, deflate: true } as const;
    await writer.add({ path: name, size: content.length, ...shared }, content);
  }
}

function warningsOf({ skipped }: ExportedTree, { oddNames }: ArchiveWriter): string[] {
  const special = Object.entries(skipped).filter(([, count = 0]) => count > 0);
  return [
    ...special.map(([type, count]) => `recorded without content, so not exported: ${plural(count ?? 0, type)}`),
    ...(oddNames > 0
      ? [
          `${plural(oddNames, 'name')} that an archive cannot carry: written with %XX for bytes; an import restores them`,
        ]
      : []),
  ];
}
