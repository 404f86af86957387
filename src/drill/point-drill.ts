import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { PostgresSource } from '../plan/model.ts';
import { baseName } from '../plan/postgres.ts';
import { parsePointInTime } from '../plan/values/point-in-time.ts';
import { plural } from '../report/format.ts';
import { type Aim, findStart, type Start } from '../restore/point/find-start.ts';
import { recoverInto } from '../restore/point/recover-into.ts';
import { explainMemory } from '../restore/point/server-programs.ts';
import { describeTarget } from '../restore/point/target.ts';
import { readContents } from '../sources/postgres/facts/contents.ts';
import { listDatabases } from '../sources/postgres/facts/databases.ts';
import { asksOf } from '../sources/postgres/facts/facts.ts';
import { applicationName } from '../sources/postgres/postgres-source.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { chooseImage } from '../sources/postgres/throwaway/choose-image.ts';
import { readRecoverable } from '../store/wal/recoverable.ts';
import { askAll } from './ask-all.ts';
import { checkIndexes } from './check-indexes.ts';
import { type DrillDeps, limitsOf, type Part, step } from './context.ts';
import { checkWal } from './wal-check.ts';

/** The point of a recovery, and what leads to it. */
export interface FoundPoint {
  aim: Aim;
  start: Start;
}

/** After this time, the WAL after a base backup must be stored, milliseconds. */
const YOUNG_MS = 24 * 3_600_000;

/** How often WAL that is missing is looked for. */
const LOOKS = 3;

/**
 * Finds the base backup and the WAL for a point of a server. Without a point, takes a random moment between the last
 * base backup and the end of the stored WAL: over time, drills prove the whole window. Resolves to `too early` if the
 * first window is not open yet.
 *
 * @param random from 0, below 1
 * @throws PITR_TIME, SOURCE_UNKNOWN, and the errors of the repository
 */
export async function findPoint(
  deps: DrillDeps,
  { server, aim, signal }: { server: string; aim?: Aim; signal: AbortSignal },
  random: number,
): Promise<FoundPoint | 'too early'> {
  const repository = await deps.repository();
  const remembered = await deps.remembered(server);
  const find = async (one: Aim) => {
    let start = await findStart(repository, { source: server, signal, ...one }, remembered);
    // The receiver may have stored and removed WAL while it was listed. Lost WAL is missing the next time, too.
    for (let again = 1; again < LOOKS && start.problems.length > 0; again++)
      start = await findStart(repository, { source: server, signal, ...one }, remembered);
    return { aim: one, start };
  };
  if (aim) return find(aim);
  let latest: FoundPoint;
  try {
    latest = await find({ target: 'latest' });
  } catch (error) {
    if (hasCode(error, 'PITR_TIME') && (await isYoung(deps, server, signal))) return 'too early';
    throw error;
  }
  const { window } = latest.start;
  const [from, to] = [Date.parse(window.from), Date.parse(window.to)];
  const moment = parsePointInTime(new Date(from + (to - from) * random).toISOString());
  if (!moment) throw new LifeboatError('PITR_TIME', `the window of ${server} has no time`);
  return find({ target: moment, timeline: window.timeline });
}

/** Returns whether the first base backup of a server is so new that the WAL after it need not be stored yet. */
async function isYoung(deps: DrillDeps, server: string, signal: AbortSignal): Promise<boolean> {
  const names = { source: server, base: baseName(server) };
  const remembered = await deps.remembered(server);
  const { windows, bases, problems } = await readRecoverable(await deps.repository(), names, remembered, signal);
  const since = deps.now().getTime() - YOUNG_MS;
  return windows.length + problems.length === 0 && bases.every(({ stopTime }) => Date.parse(stopTime) > since);
}

/**
 * Recovers a server to a point in time in a throwaway volume, starts it, and checks what it holds. The base backup is
 * compared with its SHA-256 sums as it is restored, and the recovery itself proves that the WAL is whole.
 *
 * @throws PG_RESTORE_FAILED with the server's words; OBJECT_*, KEY_*, HELPER_FAILED, ENGINE_*
 */
export async function drillPoint(
  deps: DrillDeps,
  part: Part,
  { server, planned, aim, start }: FoundPoint & { server: string; planned: PostgresSource | undefined },
): Promise<void> {
  const { result, context, signal, log, say } = part;
  const { repository, id, journal, directory } = context;
  const { agent, treeStore } = deps;
  const image = await chooseImage(deps.engine, start.entry, planned?.imageId);
  result.image = image;
  if (!image.recorded)
    result.notes.push(
      'the image that the base backup was made with is gone, so the present image of the source is used',
    );
  const recovery = { repository, start, id, journal, directory, limits: limitsOf(deps), image };
  await checkWal(repository, part, { server, start }, Math.random());
  const begin = performance.now();
  const { server: recovering, ...recovered } = await step(part, 'recovering the server', () =>
    recoverInto({ agent, treeStore, log }, { ...aim, source: server, signal, say }, recovery),
  );
  try {
    const asked = aim.target === 'latest' ? start.window.to : describeTarget(aim.target);
    const { at, stopped, lastCommit } = recovered.recovered;
    const where = at === 'end' ? 'the end of the write-ahead log' : (stopped ?? 'the target');
    const detail = lastCommit === undefined ? where : `${where}; the last commit in it is of ${lastCommit}`;
    for (const { name, ok, skipped, detail: found } of recovered.checks)
      result.checks.push({ name, of: server, result: skipped ? 'skipped' : ok ? 'ok' : 'failed', detail: found });
    result.checks.push({ name: `recovered to ${asked}`, of: server, result: 'ok', detail });
    const serving = await step(part, 'starting the server', () =>
      recovering.serve(planned ?? strange(deps, server), undefined),
    );
    const application = applicationName(deps.project, id);
    const tools = await deps.openTools(serving, {
      runId: id,
      application,
      journal,
      limits: limitsOf(deps),
      signal,
      say,
    });
    try {
      result.restoreMs = Math.round(performance.now() - begin);
      await check(deps, part, tools, planned);
      result.summary = `recovered to ${asked}, ${plural(recovered.segments, 'segment')} of WAL replayed`;
    } finally {
      await tools.close();
    }
  } catch (error) {
    throw signal.aborted ? error : await explainMemory(deps.engine, recovering.helper.id, error);
  } finally {
    await recovering.remove();
  }
}

async function check(deps: DrillDeps, part: Part, tools: Tools, planned: PostgresSource | undefined): Promise<void> {
  const { result, signal } = part;
  const control = await tools.control();
  const { version } = await control.one<{ version: string }>("SELECT current_setting('server_version') AS version");
  result.version = version.split(' ')[0] ?? version;
  const listed = (await listDatabases(control)).filter(({ closed, template }) => closed === undefined && !template);
  await step(part, 'checking the indexes', async () => {
    for (const { name } of listed) {
      try {
        const session = await tools.session(name, signal);
        await readContents(session).finally(() => session.close());
        result.checks.push(await checkIndexes(tools, name, { until: part.until, signal, tables: true }));
      } catch (error) {
        signal.throwIfAborted();
        const { message, cause } = errorInfo(error);
        result.checks.push({ name: 'can be read', of: name, result: 'failed', detail: cause ?? message });
      }
    }
  });
  const present = listed.map(({ name }) => name);
  await askAll(deps, part, planned && asksOf(planned), { tools, present });
}

/** Returns a stand-in for a server whose container no longer exists. */
function strange({ project }: DrillDeps, name: string): PostgresSource {
  return {
    kind: 'postgres',
    ...{ name, project, service: 'drill', schedule: '', keep: {}, user: 'postgres', imageId: '', port: 5432 },
    ...{ containerId: '', containerName: name, database: 'postgres', dataDirectories: [], mounts: [] },
    ...{ excludeDatabases: [], excludeTableData: [] },
  };
}
