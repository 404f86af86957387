import path from 'node:path';
import { LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { formatBytes, oneLine, plural, table } from '../report/format.ts';
import { originText, statusWord } from '../report/status-word.ts';
import { findSnapshot } from '../restore/find.ts';
import { SPOOL } from '../run/mounts.ts';
import { withLookDirectory } from '../run/spool.ts';
import type { PostgresFacts } from '../sources/postgres/facts/facts.ts';
import { selectByGlobs } from '../store/filesystem/glob.ts';
import type { IndexEntry } from '../store/filesystem/index-file.ts';
import { displayPath } from '../store/filesystem/path.ts';
import { readIndexFile } from '../store/filesystem/read-index.ts';
import { type Manifest, type ManifestSource, withKeyId } from '../store/objects/manifest.ts';
import { resolveSnapshot } from '../store/repository/chain.ts';
import { type Call, print } from './call.ts';

export async function show(call: Call): Promise<number> {
  const [name, source, glob] = call.operands as [string, string?, string?];
  const repository = await call.app.repository({ create: false });
  const look = { unsigned: true, lookOnly: true, signal: call.io.signal };
  // The newest snapshot may not have this source.
  const manifest =
    name === 'latest' && source !== undefined
      ? (await findSnapshot(repository, { snapshot: name, source, ...look })).snapshot
      : (await resolveSnapshot(repository, name, Date.now())).manifest;
  if (source === undefined) {
    print(call, 'show SNAPSHOT', manifest, () => renderManifest(manifest));
    return EXIT.done;
  }
  const entry = manifest.sources[source];
  if (!entry) {
    throw new LifeboatError('SOURCE_UNKNOWN', `snapshot ${manifest.id} has no source ${source}`, {
      hint: `It has: ${Object.keys(manifest.sources).join(', ')}.`,
    });
  }
  if (entry.kind === 'postgres' && glob === undefined) {
    const facts = entry.facts
      ? ((await repository.readFacts(withKeyId(entry.facts, entry))) as PostgresFacts)
      : undefined;
    print(call, 'show SNAPSHOT SOURCE', { ...entry, facts }, () => renderDatabases(source, entry, facts));
    return EXIT.done;
  }
  return showFiles(call, entry, glob);
}

/** Renders a snapshot. The message of a failure is on a line of its own, because it is longer than a column. */
export function renderManifest(manifest: Manifest): string {
  const entries = Object.entries(manifest.sources);
  const rows = entries.map(([name, entry]) => [
    name,
    statusWord(entry.status),
    entry.error && entry.status === 'failed' ? '' : entry.summary,
    formatBytes(entry.bytes),
    `${formatBytes(entry.newBytes)} new`,
  ]);
  const lines = table(rows, { indent: 2, align: ['left', 'left', 'left', 'right', 'right'] });
  const { id, project, status, agentVersion } = manifest;
  return [
    `Snapshot ${id} of ${project} · ${statusWord(status)} · ${originText(manifest)} · by Lifeboat ${agentVersion}`,
    ...lines.flatMap((line, i) => [line, ...failureLine(entries[i]?.[1])]),
  ].join('\n');
}

function failureLine(entry: ManifestSource | undefined): string[] {
  return entry?.error ? [`    ${oneLine(entry.error.message)} (${entry.error.code})`] : [];
}

function renderDatabases(source: string, entry: ManifestSource, facts: PostgresFacts | undefined): string {
  if (!facts)
    return `${source}: ${statusWord(entry.status)}${entry.error ? ` · ${entry.error.message} (${entry.error.code})` : ''}`;
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
    await repository.fetchIndex(withKeyId(index, entry), file, call.io.signal);
    for await (const item of readIndexFile(file)) {
      if (!wanted(item.path, item.type === 'directory')) continue;
      count += 1;
      if (call.json) found.push(toFile(item));
      else call.io.out(`${fileLine(item)}\n`);
    }
  });
  if (call.json) print(call, 'show SNAPSHOT SOURCE', { files: found }, () => '');
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
