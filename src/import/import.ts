import { stat } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { backup } from '../backup/backup.ts';
import type { BackupDeps, BackupRequest, RunContext } from '../backup/context.ts';
import { hasErrno, LifeboatError } from '../base/errors.ts';
import type { PlannedSource } from '../plan/model.ts';
import { isFuture } from '../plan/values/clock.ts';
import { sourcesHint } from '../plan/values/suggest.ts';
import type { RunReport, SourceReport } from '../report/events.ts';
import type { AgentContext } from '../sources/postgres/server/tools.ts';
import type { Source } from '../sources/source.ts';
import { fileStream } from '../store/archive/open-archive.ts';
import type { RootMeta } from '../store/archive/unpack.ts';
import type { TreePath } from '../store/filesystem/path.ts';
import { sourceOfArchive } from './import-tree.ts';
import type { PathLookup } from './leading-directories.ts';

/** The dependencies of an import. */
export interface ImportDeps extends Omit<BackupDeps, 'capturer'> {
  /** for the throwaway server that a dump is loaded into */
  agent: AgentContext;
  /** makes a capturer with another source in place of the planned one */
  capturerWith(make: (planned: PlannedSource, context: RunContext) => Source): BackupDeps['capturer'];
  /** owner and mode of the top directory of a source, as its last snapshot has them */
  lastRoot(source: string, context: RunContext): Promise<RootMeta | undefined>;
  /** which of some paths a source has, see {@link PathLookup} */
  knownOf(planned: PlannedSource, paths: readonly TreePath[], context: RunContext): ReturnType<PathLookup>;
}

export interface ImportRequest {
  /** absolute path in the agent, or `-` for `stdin` */
  file: string;
  stdin: Readable;
  source: string;
  /** when the backup was made; absent: the time of the file */
  at?: Date;
  /** how many leading parts of each name to leave out */
  strip: number;
  /** name for the database of a dump that does not name one */
  database?: string;
  signal: AbortSignal;
}

export interface ImportReport extends Pick<SourceReport, 'files' | 'bytes' | 'newBytes' | 'warnings' | 'status'> {
  snapshot: string;
  source: string;
  file: string;
  /** ISO time */
  at: string;
  error?: SourceReport['error'];
}

/**
 * Makes a snapshot from a backup of another program. It takes the path of every backup, under lock and lease, with the
 * trigger `import`. The snapshot is at the end of the chain and records when the backup was made. It is never the
 * latest, see `isRegular`, and it is pinned.
 *
 * @throws with nothing stored: USAGE, SOURCE_UNKNOWN, LOCKED, IMPORT_UNREADABLE, IMPORT_REFUSED, KEY_MISSING,
 * KEY_WRONG, SPOOL_FULL, TREE_EMPTY.
 */
export async function importArchive(deps: ImportDeps, request: ImportRequest): Promise<ImportReport> {
  const { source, database, signal } = request;
  const { name, at } = await timeOf(request, deps.now());
  const stream = request.file === '-' ? request.stdin : fileStream(request.file);
  const capturer = deps.capturerWith((planned, context) =>
    sourceOfArchive(planned, {
      ...(request.file === '-' ? {} : { file: request.file }),
      stream,
      strip: request.strip,
      ...(database === undefined ? {} : { database }),
      agent: deps.agent,
      recordHelper: (name) => context.journal.record({ type: 'helper', name }),
      keys: context.repository.keys,
      root: () => deps.lastRoot(source, context),
      knownOf: (paths) => deps.knownOf(planned, paths, context),
    }),
  );
  try {
    const plan = () => planOf(deps, source);
    // Before the lock is taken, so a wrong name is reported at once.
    await plan();
    const only: BackupRequest['only'] = (planned) => planned.name === source;
    const imported = { at: at.toISOString(), file: name };
    const report = await backup({ ...deps, plan, capturer }, { trigger: 'import', imported, only, signal });
    return conclude(report, { source, file: name, at: imported.at });
  } finally {
    stream.destroy();
  }
}

/** Plans only the source, without stops and hooks, because an import does not touch its container. */
async function planOf(deps: ImportDeps, source: string) {
  const plan = await deps.plan();
  const found = plan.sources.find(({ name }) => name === source);
  if (!found) {
    const known = plan.sources.map(({ name }) => name);
    throw new LifeboatError('SOURCE_UNKNOWN', `no source is named ${source}`, {
      hint: known.length > 0 ? sourcesHint([source], known) : 'There is no source. See `lifeboat plan`.',
    });
  }
  const { pre: _pre, post: _post, ...rest } = found;
  const still: PlannedSource = rest.kind === 'volume' ? { ...rest, stop: [] } : rest;
  return { ...plan, sources: [still], problems: [] };
}

async function timeOf({ file, at }: ImportRequest, now: Date): Promise<{ name: string; at: Date }> {
  if (at && isFuture(at.getTime(), now.getTime())) {
    throw new LifeboatError('USAGE', '--at is in the future', { hint: 'Give the time when the backup was made.' });
  }
  if (file === '-') {
    if (at) return { name: 'stdin', at };
    throw new LifeboatError('USAGE', 'the time of a backup on stdin is not known', {
      hint: 'Add --at, with a time such as 2026-11-20T03:00Z.',
    });
  }
  const there = await stat(file).catch((error: unknown) => {
    if (!hasErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) throw error;
    throw new LifeboatError('IMPORT_UNREADABLE', `the Lifeboat container has no file ${file}`, {
      cause: error,
      hint: 'Mount its directory into the Lifeboat service, or redirect the file to stdin: `docker compose exec -T lifeboat lifeboat import - SOURCE --at TIME < FILE`.',
    });
  });
  if (!there.isFile()) throw new LifeboatError('IMPORT_UNREADABLE', `${file} is not a file`);
  const made = at ?? there.mtime;
  // A date in the future is wrong. The file exists, so the backup was made by now.
  return { name: path.basename(file), at: isFuture(made.getTime(), now.getTime()) ? now : made };
}

function conclude(report: RunReport, about: Pick<ImportReport, 'source' | 'file' | 'at'>): ImportReport {
  const result = report.results.find(({ name }) => name === about.source);
  const why = result?.status === 'failed' ? result.error : report.error;
  if (!result || report.snapshot === undefined || result.status === 'failed') {
    const { code, message, hint, cause } = why ?? { code: 'INTERNAL' as const, message: 'the import stored nothing' };
    throw new LifeboatError(code, message, {
      ...(hint === undefined ? {} : { hint }),
      ...(cause === undefined ? {} : { cause: new Error(cause) }),
    });
  }
  const { files, bytes, newBytes, warnings, status, error } = result;
  return { ...about, snapshot: report.snapshot, files, bytes, newBytes, warnings, status, ...(error ? { error } : {}) };
}
