import { stat } from 'node:fs/promises';
import { startCommand } from '../app/into-project.ts';
import { LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { redact } from '../base/redact.ts';
import { isPattern } from '../plan/values/name-patterns.ts';
import type { Listener } from '../report/events.ts';
import { dryRunText, restoredSummary, restoreLines, restoreWarnings } from '../report/restore-text.ts';
import { createProgress } from '../report/terminal/progress.ts';
import type { Consent, RestoreRequest, RestoreResult } from '../restore/context.ts';
import { withoutSource } from '../restore/find.ts';
import type { Aim } from '../restore/point/find-start.ts';
import { onlyDatabase } from '../restore/point/only-database.ts';
import type { PointResult } from '../restore/point/restore-point.ts';
import { type Call, print } from './call.ts';
import { consent, list, texts } from './consent.ts';
import { aimOf, checkInto, checkLive, optionOf, withoutAim } from './option-values.ts';

/** Without a source: all sources, or those that `only` selects. */
type Request = Omit<RestoreRequest, 'source'> & { source?: string };

/** `lifeboat restore` */
export async function restore(call: Call): Promise<number> {
  const aim = aimOf(call.options);
  return aim ? restorePoint(call, aim) : restoreSnapshot(call);
}

/** @param recovered id of the snapshot that was made for this restore, if any */
async function restoreSnapshot(call: Call, recovered?: string): Promise<number> {
  const { app, operands, options } = call;
  const [snapshot, names = []] = operands as [string, string[] | undefined];
  const isOne = names.length === 1 && !names.some(isPattern);
  await checkScope(call, names, isOne);
  checkLive(options);
  checkInto(options);
  const request: Request = {
    ...consent(call),
    snapshot,
    ...(isOne ? { source: names[0] as string } : {}),
    ...(!isOne && names.length > 0 ? { only: names } : {}),
    ...texts(options, 'to', 'database', 'toDatabase', 'toDirectory', 'as', 'from', 'project', 'intoProject'),
    tables: list(options.table),
    paths: list(options.path),
    overwrite: options.overwrite === true,
    globals: options.globals === true,
    unsigned: options.unsigned === true,
    dryRun: options.dryRun === true,
    safety: options.safety !== false,
    skipFailed: options.skipFailed === true,
    live: options.live === true,
  };
  const run = (one: typeof request) => shown(call, (say, listeners) => app.restore({ ...one, say }, listeners));
  if (options.all === true && (await isNewHost(call))) return bringProject(call, request, run);
  return reported(call, await run(request), { done: options.globals === true, recovered });
}

/** Where the user mounts the directory of the project on a new host. */
const PROJECT_DIRECTORY = '/project';

/** Returns true for `docker run -v ./:/project … restore --all --from …`: there is no project yet. */
async function isNewHost({ app, options }: Call): Promise<boolean> {
  if (typeof options.from !== 'string' || app.self.facts.project !== '') return false;
  return stat(PROJECT_DIRECTORY).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** Brings the Compose files of a project back, and shows the commands that bring its data back. */
async function bringProject(
  call: Call,
  request: Request,
  run: (request: Request) => Promise<RestoreResult>,
): Promise<number> {
  const { app, options } = call;
  const { restoreProjectFiles } = await import('../restore/all/project-files.ts');
  const { dataCommands, writeDataScript } = await import('../setup/new-host.ts');
  const restoreInto = (toDirectory: string) => run({ ...request, source: 'config', toDirectory });
  if (request.dryRun) return reported(call, await restoreInto(`${PROJECT_DIRECTORY}/restored`));
  const { files, result } = await restoreProjectFiles(PROJECT_DIRECTORY, restoreInto);
  const warnings = restoreWarnings(result);
  const from = options.from as string;
  // A directory has another path in the container of the project, usually as its destination.
  const place = from.startsWith('/') ? {} : { from };
  const next = await dataCommands(PROJECT_DIRECTORY, {
    ...{ project: app.project, snapshot: request.snapshot, ...place },
  });
  const script = await writeDataScript(PROJECT_DIRECTORY, next);
  print(call, 'restore on a new host', { project: app.project, files, warnings, next, script: script ?? null }, () =>
    [
      `Restored the files of project ${app.project}: ${files.join(', ')}`,
      ...warnings.map((warning) => call.io.paint.warn(`  warning: ${warning}`)),
      'To restore its data, run these commands in the project directory:',
      ...next.map((line) => `    ${line}`),
      ...(script === undefined ? [] : [`They are also in the script ${script} there.`]),
    ].join('\n'),
  );
  return result.status === 'ok' ? EXIT.done : EXIT.partial;
}

/** Runs a restore with its lines and its progress shown to the user. */
async function shown(
  { io, json }: Call,
  run: (say: Consent['say'], listeners: Listener[]) => Promise<RestoreResult>,
): Promise<RestoreResult> {
  const display = createProgress(io.terminal, { paint: io.paint });
  const say: Consent['say'] = (line) => {
    if (json) return;
    // The next step starts, so the progress of the last one is final.
    display.close();
    display.write(`${redact(line)}\n`);
  };
  return run(say, json ? [] : [display]).finally(() => display.close());
}

/** How a restore came about. */
interface About {
  /** a restore that replaced nothing has done its work */
  done?: boolean;
  /** id of the snapshot that was made for it */
  recovered?: string | undefined;
}

/** Prints the result of a restore. */
async function reported(call: Call, result: RestoreResult, { done, recovered }: About = {}): Promise<number> {
  const { app } = call;
  const dryRun = call.options.dryRun === true;
  const start = app.isCopy && result.status === 'ok' && !dryRun ? [await startLine(app)] : [];
  print(call, 'restore', result, () => {
    if (dryRun) return dryRunText(recovered);
    return [
      `Restored ${restoredSummary(result)} in ${(result.durationMs / 1000).toFixed(1)}s`,
      ...restoreLines(result, call.io.paint),
      ...start,
    ].join('\n');
  });
  if (result.status === 'partial') return EXIT.partial;
  return dryRun || done || result.restored.length > 0 ? EXIT.done : EXIT.nothing;
}

/** The data is in place, so an engine that does not answer is no failure. */
async function startLine({ engine, project, self }: Call['app']): Promise<string> {
  const command = await startCommand(engine, project, self.facts.service).catch(() => undefined);
  return `  to start the other services: ${command ?? 'docker compose up, see docs/staging.md'}`;
}

/** Options that apply to a single source. */
const OF_ONE = ['database', 'toDatabase', 'toDirectory', 'to', 'table', 'as', 'path', 'overwrite'];

/** Checks that the command names either sources or all sources, with options that apply to them. @throws USAGE */
async function checkScope(call: Call, names: readonly string[], isOne: boolean): Promise<void> {
  const { options } = call;
  const all = options.all === true;
  if (all === (names.length === 0)) {
    const given = OF_ONE.filter((name) => options[name] !== undefined);
    if (isOne || given.length === 0) return;
    const what = all ? '--all' : 'several sources';
    throw new LifeboatError('USAGE', `${what} cannot be combined with options for a single source`, {
      hint: `Name one source${all ? ' instead of --all' : ''}.`,
    });
  }
  if (all) throw new LifeboatError('USAGE', 'use either --all or a source', { hint: 'Leave one of them out.' });
  const sources = (await call.app.repository({ create: false })).snapshots(call.io.signal);
  throw withoutSource(call.operands[0] as string, (await sources).snapshots);
}

/** `lifeboat restore SOURCE --at TIME`, or to another point: recovers a database server to a point in time. */
async function restorePoint(call: Call, aim: Aim): Promise<number> {
  const { app, operands, options, io, json } = call;
  const [source, [extra] = []] = operands as [string, string[] | undefined];
  if (options.intoProject !== undefined) {
    throw new LifeboatError('USAGE', '--into-project cannot be combined with a point in time', {
      hint: 'Restore a snapshot into it.',
    });
  }
  if (extra !== undefined) {
    throw new LifeboatError('USAGE', 'a recovery to a point in time takes a source, and no snapshot', {
      hint: `Write: restore ${extra} --at "2026-11-20 14:30:00+01" --to-volume NAME`,
    });
  }
  const { toVolume } = options;
  if (options.inPlace === true) return restorePointInPlace(call, source, aim);
  const say = (line: string) => (json ? undefined : io.err(`${redact(line)}\n`));
  if (toVolume === undefined) {
    const isPart = options.table !== undefined || options.toDatabase !== undefined;
    if (typeof options.database !== 'string' && !isPart) {
      throw new LifeboatError('USAGE', 'a recovery to a point in time needs --database, --to-volume or --in-place', {
        hint: 'Recover one database into the server in use, with --database NAME --to-database NEW, or the whole server: into a new volume, or in place of the data in use.',
      });
    }
    const database =
      typeof options.database === 'string'
        ? options.database
        : await onlyDatabase(await app.repository({ create: false }), source, io.signal);
    // A restore from a snapshot of that moment has all the checks and options of a restore.
    const snapshot = await app.snapshotOfPoint({ source, ...aim, database, signal: io.signal, say });
    const of = { ...call, operands: [snapshot, [source]], options: { ...withoutAim(options), database } };
    return restoreSnapshot(of, snapshot);
  }
  if (typeof toVolume !== 'string') throw new LifeboatError('USAGE', '--to-volume needs a name');
  const result = await app.restoreToPoint({ source, ...aim, toVolume, signal: io.signal, say });
  print(call, 'restore --to-volume', result, () => pointLines(result).join('\n'));
  return result.checks.every(({ ok }) => ok) ? EXIT.done : EXIT.partial;
}

/** Options of a recovery that do not go with `--in-place`. */
const NOT_IN_PLACE = ['toVolume', 'database', 'toDatabase', 'toDirectory', 'to', 'table', 'as', 'path', 'live', 'all'];

async function restorePointInPlace(call: Call, source: string, aim: Aim): Promise<number> {
  const { app, options } = call;
  const given = NOT_IN_PLACE.find((name) => options[name] !== undefined && options[name] !== false);
  const option = options.stop === false ? '--no-stop' : given && optionOf(given);
  if (option !== undefined) {
    throw new LifeboatError('USAGE', `--in-place cannot be combined with ${option}`, {
      hint: 'It replaces the whole data directory while the server is stopped.',
    });
  }
  const request = { ...consent(call), ...aim, source, dryRun: options.dryRun === true };
  const result = await shown(call, (say, listeners) => app.restoreInPlace({ ...request, say }, listeners));
  return reported(call, result);
}

function pointLines(result: PointResult): string[] {
  const { source, volume, recovered, target, dataDirectory, segments, durationMs } = result;
  const { at, stopped, lastCommit } = recovered;
  const where = at === 'target' ? `to ${target}` : 'to the end of the stored write-ahead log';
  return [
    `Recovered ${source} ${where} in ${(durationMs / 1000).toFixed(1)}s, from ${segments} segments of WAL`,
    ...(stopped === undefined ? [] : [`  stopped ${stopped}`]),
    ...(lastCommit === undefined ? [] : [`  the last transaction in it was committed at ${lastCommit}`]),
    ...result.checks.map(({ name, ok, detail }) => `  ${name}: ${ok ? '' : 'damaged: '}${detail}`),
    `The data is in the volume ${volume}. To use it, stop the service and change its volume in the Compose file:`,
    '    volumes:',
    `      - ${volume}:${dataDirectory}`,
    'and declare the volume at the top level:',
    `    volumes: { ${volume}: { external: true } }`,
  ];
}
