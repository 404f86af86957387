import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { backup } from '../../backup/backup.ts';
import type { BackupDeps, BackupRequest, RunContext } from '../../backup/context.ts';
import { LifeboatError } from '../../base/errors.ts';
import type { PlannedSource, PostgresSource } from '../../plan/model.ts';
import { capturePostgres } from '../../sources/postgres/postgres-source.ts';
import type { CaptureContext, CapturedTree, Source } from '../../sources/source.ts';
import { type Aim, findReadableStart, type PointDeps, type Start } from './find-start.ts';
import { type RecoverDeps, recoverInto } from './recover-into.ts';
import { describeTarget } from './target.ts';

export interface PointSnapshotDeps extends Omit<BackupDeps, 'capturer'>, Pick<RecoverDeps, 'agent' | 'treeStore'> {
  /** makes a capturer with another source in place of the planned one */
  capturerWith(make: (planned: PlannedSource, context: RunContext) => Source): BackupDeps['capturer'];
  remembered: PointDeps['remembered'];
}

export interface PointSnapshotRequest extends Aim {
  source: string;
  /** the only database to store; absent: all */
  database?: string;
  signal: AbortSignal;
  say(line: string): void;
}

/**
 * Makes a snapshot of a server as it was at a point in time: recovers the server into a volume of the run, dumps it as
 * every backup does, and removes the volume. Its trigger is `import`, because it holds old data. A restore from it puts
 * single databases and tables into the server in use.
 *
 * @returns the id of the snapshot
 * @throws PITR_TIME, SOURCE_UNKNOWN, before anything is made; the error of the source
 */
export async function snapshotOfPoint(deps: PointSnapshotDeps, request: PointSnapshotRequest): Promise<string> {
  const { source, target, signal } = request;
  const plan = async () => {
    const all = await deps.plan();
    const found = all.sources.find(({ name, kind }) => name === source && kind === 'postgres');
    if (found) return { ...all, sources: [found], problems: [] };
    throw new LifeboatError('SOURCE_UNKNOWN', `no database source is named ${source}`, {
      hint: 'Restore into a new volume instead, with --to-volume.',
    });
  };
  await plan();
  const { start } = await findReadableStart(deps, request);
  const isTime = target !== 'latest' && 'date' in target;
  // Nobody knows the time of a position before the recovery.
  const at = isTime ? target.date.toISOString() : (start.marker?.time.toISOString() ?? start.window.to);
  const capturer = deps.capturerWith((planned, context) =>
    recoveredSource(deps, planned as PostgresSource, { request, context, start }),
  );
  const imported = { at, file: `recovery to ${target === 'latest' ? at : describeTarget(target)}`, kind: 'recovery' };
  const only: BackupRequest['only'] = ({ name }) => name === source;
  const report = await backup({ ...deps, plan, capturer }, { trigger: 'import', imported, only, signal });
  const result = report.results.find(({ name }) => name === source);
  if (report.snapshot !== undefined && result?.status === 'ok') {
    request.say(`  stored snapshot ${report.snapshot} with the recovered state; the databases are unchanged`);
    return report.snapshot;
  }
  const { code, message, hint, cause } = result?.error ??
    report.error ?? { code: 'INTERNAL' as const, message: 'nothing was stored' };
  throw new LifeboatError(code, message, {
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined ? {} : { cause: new Error(cause) }),
  });
}

/** Makes a source whose tree is a dump of the recovered server. */
function recoveredSource(
  deps: PointSnapshotDeps,
  planned: PostgresSource,
  { request, context: run, start }: { request: PointSnapshotRequest; context: RunContext; start: Start },
): Source {
  const { journal, repository } = run;
  const { agent, treeStore } = deps;
  const recordHelper = (name: string) => journal.record({ type: 'helper', name });
  return {
    name: planned.name,
    kind: 'postgres',
    async capture<T>(context: CaptureContext, store: (tree: CapturedTree) => Promise<T>): Promise<T> {
      const directory = path.join(path.dirname(context.spool), 'recovery');
      await mkdir(directory, { mode: 0o700 });
      const recovery = { repository, start, id: run.run.id, journal, directory };
      const asked = { ...request, presentImage: planned.imageId };
      const { server } = await recoverInto({ agent, treeStore, log: context.log }, asked, recovery);
      try {
        const { database } = request;
        const recovered = await server.serve(planned, database === undefined ? undefined : [database]);
        const options = { agent, planned: recovered, recordHelper, putAside: async () => [] };
        request.say('  dumping what is to be restored');
        const tree = await capturePostgres(options, context, () => server.remove());
        return await store(tree);
      } finally {
        await server.remove();
      }
    },
  };
}
