import { unlessAborted } from '../base/abort.ts';
import { type ErrorInfo, errorInfo } from '../base/errors.ts';
import { PROBE_RUN } from '../docker/helper-labels.ts';
import { keptDatabases } from '../kept/databases.ts';
import type {
  FilesSource,
  Mount,
  Note,
  Plan,
  PlannedSource,
  PostgresSource,
  Problem,
  VolumeSource,
} from '../plan/model.ts';
import { serverOf } from '../plan/postgres.ts';
import { cutToWidth, plural } from '../report/format.ts';
import type { Probed } from '../report/terminal/listing.ts';
import type { State } from '../run/state.ts';
import {
  chooseDatabases,
  listDatabases,
  type MissingDatabase,
  missingNamed,
} from '../sources/postgres/facts/databases.ts';
import { readServerFacts } from '../sources/postgres/facts/facts.ts';
import { applicationName } from '../sources/postgres/postgres-source.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { mayBeStarting } from '../sources/postgres/server/when-up.ts';
import { fileMountsIn, HELPER_ROOT, leftOutOf, pathInAgent } from '../sources/volume.ts';
import type { MeasuredTree } from '../store/content/measure-tree.ts';
import { newSnapshotId } from '../store/objects/snapshot-id.ts';
import type { TreeStore } from '../trees/runner.ts';
import { probeBase } from './probe-base.ts';
import { treeFindings } from './tree-findings.ts';

interface ProbeDeps {
  project: string;
  agentMounts: readonly Mount[];
  treeStore: TreeStore;
  state: Pick<State, 'rollbacks'>;
  openTools(
    source: PostgresSource,
    context: { runId: string; application: string; signal: AbortSignal },
  ): Promise<Tools>;
}

/** The most time that one source gets to respond, milliseconds. */
const LIMIT_MS = 20_000;
/** A server may still be starting for this time after its container's start, milliseconds. A run waits as long. */
const STARTING_MS = 3 * 60_000;
const NOT_READY = 'is not ready yet: its container has just started, and a run waits for it';
/** Width of the names of a volume's databases, columns. */
const NAMES_WIDTH = 40;

/**
 * Probes every source of a plan: its databases or files, and their size. A source that cannot be reached becomes a
 * further problem of the plan, which names the container and has a hint.
 *
 * @returns `empty`: names of sources without files
 */
export async function probe(
  plan: Plan,
  deps: ProbeDeps,
): Promise<{ probes: Map<string, Probed>; problems: Problem[]; notes: Note[]; empty: string[] }> {
  const probes = new Map<string, Probed>();
  const problems: Problem[] = [];
  const notes: Note[] = [];
  const empty: string[] = [];
  for (const source of plan.sources) {
    const limit = AbortSignal.timeout(LIMIT_MS);
    try {
      const { missing = [], warnings = [], found, ...probed } = await probeOne(source, deps, limit);
      probes.set(source.name, probed);
      problems.push(...missing.map(({ error }) => toProblem(source, errorInfo(error))));
      problems.push(...warnings.map((message) => missingDatabase(source, message)));
      problems.push(...(found?.problems ?? []));
      notes.push(...(found?.notes ?? []));
      if (found?.empty) empty.push(source.name);
    } catch (error) {
      probes.set(source.name, { what: describe(source) });
      const notReady = isStarting(source, error, new Date());
      if (notReady) notes.push({ subject: source.name, message: NOT_READY });
      else problems.push(limit.aborted ? tooSlow(source) : toProblem(source, errorInfo(error)));
    }
  }
  return { probes, problems, notes, empty };
}

/**
 * The result of probing one source. `missing`: databases that should be backed up but cannot be; `warnings`: databases
 * that the container names but the server does not have; `found`: findings about the files of a tree, or notes.
 */
type Look = Probed & {
  missing?: readonly MissingDatabase[];
  warnings?: readonly string[];
  found?: { problems: Problem[]; notes: Note[]; empty: boolean };
};

/** Returns true for a server that does not respond shortly after its container's start. A first start takes a while. */
function isStarting({ kind, life }: PlannedSource, error: unknown, now: Date): boolean {
  if ((kind !== 'postgres' && kind !== 'base') || !life || !mayBeStarting(error)) return false;
  return now.getTime() - Date.parse(life.startedAt) < STARTING_MS;
}

/** A source whose tree is a directory. */
type TreeSource = VolumeSource | FilesSource;

function probeOne(source: PlannedSource, deps: ProbeDeps, signal: AbortSignal): Promise<Look> {
  if (source.kind === 'base') {
    const runId = probeRun();
    const application = applicationName(deps.project, runId);
    const open = () => deps.openTools(serverOf(source), { runId, application, signal });
    return probeBase(source, open, signal);
  }
  return source.kind === 'postgres' ? probePostgres(source, deps, signal) : probeTree(source, deps, signal);
}

async function probePostgres(source: PostgresSource, deps: ProbeDeps, signal: AbortSignal): Promise<Look> {
  const runId = probeRun();
  const tools = await deps.openTools(source, { runId, application: applicationName(deps.project, runId), signal });
  try {
    const look = async () => {
      const control = await tools.control();
      const { version } = await readServerFacts(control);
      const listed = await listDatabases(control);
      const kept = await keptDatabases(deps.state, source.name, listed);
      const unknown = missingNamed(source, tools.named, listed);
      return { version, unknown, ...chooseDatabases(source, listed, kept) };
    };
    const { version, databases, missing, templates, unknown, warnings: unasked } = await unlessAborted(look(), signal);
    const names = databases.map(({ name }) => name);
    const shown = names.length > 4 ? `${names.slice(0, 3).join(', ')} and ${names.length - 3} more` : names.join(', ');
    const without = templates.length > 0 ? ` · not ${templates.join(', ')}: a template` : '';
    const size = databases.reduce((total, one) => total + one.size, 0);
    const notes = unasked.map((message) => ({ subject: source.name, message }));
    const what = `Postgres ${version} · ${shown}${without}`;
    return { what, size, missing, warnings: unknown, found: { problems: [], notes, empty: false } };
  } finally {
    await tools.close();
  }
}

async function probeTree(source: TreeSource, deps: ProbeDeps, signal: AbortSignal): Promise<Look> {
  const { root, reach } = treeOf(source, deps);
  const { exclude } = source;
  const leaveOut = leftOutOf(source);
  const fileMounts = fileMountsIn(source, reach, deps.agentMounts);
  const measured: MeasuredTree = await deps.treeStore.measure({
    root,
    reach,
    include: source.kind === 'volume' ? source.include : [],
    exclude,
    ...(leaveOut ? { leaveOut } : {}),
    ...(fileMounts ? { fileMounts } : {}),
    runId: probeRun(),
    signal,
  });
  const files = source.kind === 'files' ? ` · ${plural(measured.files, 'file')}` : '';
  const what = where(source) + files + databasesText(source, measured);
  const found = { ...treeFindings(source, measured), empty: measured.whole && measured.files === 0 };
  return { what, size: measured.bytes, ...(measured.whole ? {} : { atLeast: true }), found };
}

/** Returns text about the SQLite databases of a tree and how they are backed up. */
function databasesText(source: TreeSource, measured: MeasuredTree): string {
  const { databases, examples, remote } = measured;
  if (databases === 0) return '';
  const names = cutToWidth(examples.join(', ') + (databases > examples.length ? ', …' : ''), NAMES_WIDTH);
  const stopped = source.kind === 'volume' && source.stop.length > 0;
  const here = remote ? 'safe only with lifeboat.stop on a network file system' : 'copied while in use';
  return ` · ${plural(databases, 'SQLite database')} (${names}): ${stopped ? 'read while stopped' : here}`;
}

/**
 * Returns the run id of a probe's helper. It is not the id of a real run, so nobody who sees the helper waits for a
 * run.
 */
export function probeRun(): string {
  return `${PROBE_RUN}${newSnapshotId(new Date())}`;
}

function treeOf(source: TreeSource, deps: ProbeDeps) {
  if (source.kind === 'files') return { root: source.root, reach: { kind: 'here' as const } };
  const here = pathInAgent(source.mount, deps.agentMounts);
  if (here !== undefined) return { root: here, reach: { kind: 'here' as const } };
  return { root: HELPER_ROOT, reach: { kind: 'helper' as const, mount: source.mount } };
}

function describe(source: PlannedSource): string {
  if (source.kind === 'base') return `base backups and WAL of ${source.server}`;
  return source.kind === 'postgres' ? 'Postgres' : where(source);
}

function where(source: TreeSource): string {
  if (source.kind === 'files') return source.root;
  const { mount } = source as VolumeSource;
  return mount.name ? `volume ${mount.name} → ${mount.destination}` : `${mount.source} → ${mount.destination}`;
}

/**
 * Returns a warning for a source that is slow to respond. Not an error, because a backup may take longer on a busy
 * host.
 */
function tooSlow(source: PlannedSource): Problem {
  return {
    severity: 'warning',
    code: 'mount' in source || source.kind === 'files' ? 'TREE_STALLED' : 'PG_UNREACHABLE',
    subject: source.containerName || source.name,
    message: `${source.name} did not answer within ${LIMIT_MS / 1000} s, so its size is not known`,
    hint: 'A run waits longer. If the host is not busy, check the container and its disk.',
  };
}

function missingDatabase(source: PlannedSource, message: string): Problem {
  return {
    severity: 'warning',
    code: 'PG_DATABASE_UNKNOWN',
    subject: source.containerName,
    message,
    hint: 'If it was dropped or renamed on purpose, correct the setting. It is not backed up.',
  };
}

function toProblem(source: PlannedSource, error: ErrorInfo): Problem {
  const { code, message, cause, hint } = error;
  return {
    severity: 'error',
    code,
    // Many messages name the container already.
    subject: source.containerName && !message.includes(source.containerName) ? source.containerName : source.name,
    message: cause ? `${message}: ${cause}` : message,
    ...(hint ? { hint } : {}),
  };
}
