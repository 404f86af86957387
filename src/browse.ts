import path from 'node:path';
import { type Call, print } from './call.ts';
import { type ErrorInfo, errorInfo, LifeboatError, toLifeboatError } from './errors.ts';
import { EXIT } from './exit.ts';
import { heldLines } from './held-data.ts';
import { heldProblems, heldServices } from './held-services.ts';
import { copyStateLines } from './report/copy-text.ts';
import { formatAgo, formatBytes, plural, table } from './report/format.ts';
import { renderSnapshots, type SnapshotRow } from './report/listing.ts';
import { retentionLines } from './report/prune-text.ts';
import { headline, nextRun, nextTry, problemLines } from './report/text.ts';
import { findSnapshot } from './restore-find.ts';
import { SPOOL, withLookDirectory } from './spool.ts';
import { standings } from './standing.ts';
import { renderStandings } from './standing-text.ts';
import { resolveSnapshot } from './store/chain.ts';
import { selectByGlobs } from './store/glob.ts';
import { type IndexEntry, readIndexFile } from './store/index-file.ts';
import type { Manifest, ManifestSource } from './store/manifest.ts';
import { displayPath } from './store/path.ts';
import { readPins } from './store/pins.ts';
import { missingDatabases } from './store/stored-databases.ts';
import type { UnderWay } from './under-way.ts';

/** The commands that only look. */

export async function listSnapshots(call: Call): Promise<number> {
  const repository = await call.app.repository({ create: false });
  const { snapshots, damaged } = await repository.snapshots(call.io.signal);
  const pins = await readPins(repository);
  const rows = snapshots.map(({ manifest, unsigned }) => {
    const pinned = pins.get(manifest.id)?.reason;
    const row = { ...toRow(manifest), ...(unsigned ? { unsigned } : {}) };
    return { ...row, ...(pinned === undefined ? {} : { pinned }) };
  });
  print(call, { snapshots: rows, damaged: damaged.map(({ id, error }) => ({ id, code: error.code })) }, () => {
    const bad = damaged.map(({ id, error }) => `! ${id}: ${error.message} (${error.code})`);
    return [renderSnapshots(rows, new Date()), ...bad].join('\n');
  });
  return rows.length > 0 ? EXIT.done : EXIT.nothing;
}

function toRow({ id, end, status, trigger, sources }: Manifest): SnapshotRow {
  const each = Object.entries(sources).map(([name, entry]) => {
    const { status: own, bytes, newBytes } = entry;
    const missing = missingDatabases(entry).map(({ name: database }) => database);
    return { name, status: own, bytes, newBytes, ...(missing.length > 0 ? { missing } : {}) };
  });
  return { id, end, status, trigger, sources: each };
}

export async function show(call: Call): Promise<number> {
  const [name, source, glob] = call.operands as [string, string?, string?];
  const repository = await call.app.repository({ create: false });
  const look = { unsigned: true, lookOnly: true, signal: call.io.signal };
  // The newest snapshot of all may be one of another source.
  const manifest =
    name === 'latest' && source !== undefined
      ? (await findSnapshot(repository, { snapshot: name, source, ...look })).snapshot
      : (await resolveSnapshot(repository, name, Date.now())).manifest;
  if (source === undefined) {
    print(call, manifest, () => renderManifest(manifest));
    return EXIT.done;
  }
  const entry = manifest.sources[source];
  if (!entry) {
    throw new LifeboatError('SOURCE_UNKNOWN', `snapshot ${manifest.id} has no source ${source}`, {
      hint: `It has: ${Object.keys(manifest.sources).join(', ')}.`,
    });
  }
  if (entry.kind === 'postgres' && glob === undefined) {
    const facts = entry.facts ? await repository.readFacts(entry.facts) : undefined;
    print(call, { ...entry, facts }, () => renderDatabases(source, entry, facts as PostgresView | undefined));
    return EXIT.done;
  }
  return showFiles(call, entry, glob);
}

function renderManifest(manifest: Manifest): string {
  const rows = Object.entries(manifest.sources).map(([name, entry]) => [
    name,
    entry.status,
    entry.error ? `${entry.error.message} (${entry.error.code})` : entry.summary,
    formatBytes(entry.bytes),
    `${formatBytes(entry.newBytes)} new`,
  ]);
  const head = `Snapshot ${manifest.id} of ${manifest.project} · ${manifest.status} · ${manifest.trigger} · by Lifeboat ${manifest.agentVersion}`;
  return [head, ...table(rows, { indent: 2, align: ['left', 'left', 'left', 'right', 'right'] })].join('\n');
}

/** The part of a Postgres source's facts that is shown. */
interface PostgresView {
  server: { version: string };
  databases: {
    name: string;
    size: number;
    tables: { schema: string; name: string; rows: number; exact: boolean; bytes: number; data?: boolean }[];
  }[];
}

function renderDatabases(source: string, entry: ManifestSource, facts: PostgresView | undefined): string {
  if (!facts)
    return `${source}: ${entry.status}${entry.error ? ` · ${entry.error.message} (${entry.error.code})` : ''}`;
  const lines = [`${source} · Postgres ${facts.server.version} · ${entry.summary}`];
  for (const database of facts.databases) {
    lines.push(`  ${database.name} · ${formatBytes(database.size)}`);
    const rows = database.tables.map((one) => [
      `${one.schema}.${one.name}`,
      one.data === false ? 'rows not stored' : `${one.exact ? '' : 'about '}${plural(one.rows, 'row')}`,
      formatBytes(one.bytes),
    ]);
    lines.push(...table(rows, { indent: 4, align: ['left', 'right', 'right'] }));
  }
  return lines.join('\n');
}

async function showFiles(call: Call, entry: ManifestSource, glob: string | undefined): Promise<number> {
  if (!entry.index) throw new LifeboatError('OBJECT_MISSING', 'the source failed in this snapshot, so it has no files');
  const repository = await call.app.repository({ create: false });
  const wanted = glob === undefined ? () => true : selectByGlobs([glob]);
  const found: ReturnType<typeof toFile>[] = [];
  let count = 0;
  const { index } = entry;
  await withLookDirectory(path.join(SPOOL, 'runs'), async (directory) => {
    const file = path.join(directory, 'index.ndjson');
    await repository.fetchIndex(index, file, call.io.signal);
    for await (const item of readIndexFile(file)) {
      if (!wanted(item.path, item.type === 'directory')) continue;
      count += 1;
      if (call.json) found.push(toFile(item));
      else call.io.out(`${fileLine(item)}\n`);
    }
  });
  if (call.json) print(call, { files: found }, () => '');
  return count > 0 ? EXIT.done : EXIT.nothing;
}

function toFile(item: IndexEntry) {
  const { type, mode, uid, gid } = item;
  return {
    path: displayPath(item.path),
    type,
    mode: mode.toString(8),
    uid,
    gid,
    size: item.size,
    mtime: isoTime(item.mtime),
  };
}

function fileLine(item: IndexEntry): string {
  const mode = (item.mode & 0o7777).toString(8).padStart(4, '0');
  const size = item.type === 'file' ? formatBytes(item.size ?? 0) : item.type;
  return `${mode} ${String(item.uid).padStart(5)} ${String(item.gid).padStart(5)} ${size.padStart(10)} ${isoTime(item.mtime)} ${displayPath(item.path) || '.'}`;
}

function isoTime(nanoseconds: bigint): string {
  return new Date(Number(nanoseconds / 1_000_000n)).toISOString();
}

/** How each source stands by its own newest result, whatever the last run was of. */
export async function status(call: Call): Promise<number> {
  const { app } = call;
  const { state } = app;
  const now = new Date();
  const last = await state.lastRun();
  const plan = await app.plan();
  const { manifests, problem } = await lookAtDestination(call);
  const zone = app.settings.timeZone;
  const [results, accepted] = await Promise.all([state.results(), state.accepted()]);
  const all = standings({ plan, manifests, results, accepted, zone, now });
  const next = app.nextRun(plan).toISOString();
  const underWay = await app.runsUnderWay();
  const running = runningNow(underWay);
  const sources = all.map(({ name, attention, last: newest, lastGood: good, missing }) => ({
    name,
    attention,
    last: newest ?? null,
    ...(missing ? { missing } : {}),
    lastGood: good ? { snapshot: good.snapshot, at: good.at, bytes: good.entry.bytes } : null,
  }));
  const held = await app.heldData();
  const services = await heldServices(app.journals, underWay);
  const known = await state.copies();
  const copies = app.settings.copies.map(({ name }) => ({ name, ...known[name] }));
  print(
    call,
    {
      project: app.project,
      running,
      last: last ?? null,
      nextRun: next,
      sources,
      destination: { name: app.destination.name, ...(problem ? { error: errorInfo(problem) } : {}) },
      copies,
      snapshots: manifests.length,
      restores: held,
      held: services,
    },
    () =>
      [
        ...(running ? [`Running: ${running}`] : []),
        last
          ? `Last run ${formatAgo(new Date(last.end), now)}: ${headline(last)}${because(last.error)}`
          : 'No run yet.',
        ...(problem ? [`! destination: ${problem.message} (${problem.code})`, `  ${problem.hint ?? ''}`] : []),
        ...renderStandings(all, now, call.io.paint),
        ...(last ? retentionLines(last, call.io.paint) : []),
        ...copyStateLines(copies, now, call.io.paint),
        ...heldProblems(services).flatMap((problem) => problemLines(problem, call.io.paint)),
        ...heldLines(held, now),
        ...(last?.retry ? [nextTry(last.retry.at, { now, zone })] : []),
        nextRun(next, { now, zone }),
      ].join('\n'),
  );
  if (problem) return EXIT.failed;
  if (!last) return EXIT.nothing;
  if (last.status === 'failed') return EXIT.failed;
  const well = all.length > 0 && all.every(({ attention }) => attention === null);
  const behind = copies.some(({ behindSince }) => behindSince !== undefined);
  return last.status === 'ok' && well && !behind && services.length === 0 ? EXIT.done : EXIT.partial;
}

/** Reads the manifests at the destination. `problem` says why they cannot be read; the caller still shows everything else. */
async function lookAtDestination({ app, io }: Call): Promise<{ manifests: Manifest[]; problem?: LifeboatError }> {
  const { repository, error } = await app.own.look();
  if (error) return { manifests: [], problem: error };
  try {
    const { snapshots = [] } = (await repository?.snapshots(io.signal)) ?? {};
    return { manifests: snapshots.map(({ manifest }) => manifest) };
  } catch (cause) {
    io.signal.throwIfAborted();
    return { manifests: [], problem: toLifeboatError(cause) };
  }
}

function because(error: ErrorInfo | undefined): string {
  return error ? ` · ${error.message} (${error.code})` : '';
}

/** The backup or restore that is under way: the newest, since a restore makes a safety snapshot. */
function runningNow(underWay: readonly UnderWay[]): string | null {
  const start = underWay.at(-1)?.start;
  if (!start) return null;
  return start.verb === 'backup' ? `backup ${start.run.id} since ${start.run.start}` : `restore ${start.id}`;
}
