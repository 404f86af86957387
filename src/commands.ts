import { statfs } from 'node:fs/promises';
import type { App } from './app.ts';
import { type Call, type Io, type Operands, type Options, print } from './call.ts';
import { errorInfo, LifeboatError } from './errors.ts';
import { EXIT } from './exit.ts';
import { type Foreign, hintAtCopies } from './foreign.ts';
import { heldProblems, heldServices } from './held-services.ts';
import { readable } from './log.ts';
import { encryptionText } from './plan/seal-keys.ts';
import { AWS_ENVIRONMENT } from './plan/settings.ts';
import { redactDeep } from './redact.ts';
import type { RunReport } from './report/events.ts';

import { ansiPaint, plainPaint } from './report/paint.ts';

/** The Io of this process. */
export function processIo(): Io {
  const stop = new AbortController();
  const interrupt = () => stop.abort(new LifeboatError('INTERRUPTED', 'the run was asked to stop'));
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, interrupt);
  const paint = process.stdout.isTTY && !process.env.NO_COLOR ? ansiPaint : plainPaint;
  return {
    env: process.env,
    stdin: process.stdin,
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    terminal: process.stderr,
    paint,
    signal: stop.signal,
    async fail(error, json) {
      const clean = redactDeep(error);
      if (json) process.stdout.write(`${JSON.stringify({ error: clean })}\n`);
      else {
        const { renderError } = await import('./report/text.ts');
        process.stderr.write(`${renderError(clean, { paint })}\n`);
      }
    },
    end() {
      for (const name of ['SIGTERM', 'SIGINT'] as const) {
        // What the command came to is said already: a signal from now on changes nothing about it.
        process.on(name, () => process.exit());
        process.off(name, interrupt);
      }
    },
  };
}

/** Runs one command; resolves to its exit status. */
export async function run(name: string, operands: Operands, options: Options, io: Io): Promise<number> {
  if (name === 'tree-job') return treeJob(io);
  const { createApp, createBase } = await import('./app.ts');
  const level = io.env.LOG_LEVEL ?? (name === 'daemon' ? undefined : 'warn');
  // JSON would tear the display of a terminal; whoever looks for a fault needs all its fields.
  const forPeople = name !== 'daemon' && io.terminal.isTTY && level !== 'debug' && level !== 'trace';
  const write = forPeople ? (line: string) => io.err(readable(line)) : io.err;
  const base = createBase(level === undefined ? io.env : { ...io.env, LOG_LEVEL: level }, write);
  const json = options.json === true;
  if (name.startsWith('bucket-')) {
    const { bringBack, policy, setup } = await import('./bucket-commands.ts');
    const verb = { 'bucket-setup': setup, 'bucket-policy': policy, 'bucket-undelete': bringBack }[name];
    // Without an engine: a bucket may have to be looked after when the host is gone.
    if (verb) return verb({ settings: base.settings, io, options, json });
  }
  const app = await createApp({ ...base, hurry: io.signal }, foreignOf(options));
  const command = COMMANDS[name];
  if (!command) throw new LifeboatError('USAGE', `no command ${name}`);
  return command({ app, io, operands, options, json }).catch((error: unknown) => {
    throw app.foreign || !CAN_READ_COPIES.has(name) ? error : hintAtCopies(error, app.settings);
  });
}

/** The commands that take --from. */
const CAN_READ_COPIES = new Set(['restore', 'snapshots', 'show', 'check']);

function foreignOf({ from, project }: Options): Foreign | undefined {
  if (typeof from !== 'string') return undefined;
  return { from, ...(typeof project === 'string' ? { project } : {}) };
}

const COMMANDS: Record<string, (call: Call) => Promise<number>> = {
  daemon: async ({ app, io }) => {
    await app.daemon(io.signal);
    return EXIT.done;
  },
  plan: showPlan,
  backup,
  restore: async (call) => (await import('./restore-commands.ts')).restore(call),
  rollback: async (call) => (await import('./restore-commands.ts')).rollback(call),
  snapshots: async (call) => (await import('./browse.ts')).listSnapshots(call),
  show: async (call) => (await import('./browse.ts')).show(call),
  status: async (call) => (await import('./browse.ts')).status(call),
  check: async (call) => (await import('./browse-check.ts')).checkRepository(call),
  copy: async (call) => (await import('./copy-commands.ts')).copy(call),
  prune: async (call) => (await import('./prune-commands.ts')).prune(call),
  pin: async (call) => (await import('./prune-commands.ts')).pin(call),
  unpin: async (call) => (await import('./prune-commands.ts')).unpin(call),
  accept: async (call) => (await import('./accept-commands.ts')).accept(call),
  'notify-test': testNotify,
};

async function treeJob(io: Io): Promise<number> {
  // Not the app: what a helper loads it holds in memory beside the files.
  const [{ readSettings }, { openDestination }, { treeJobMain }] = await Promise.all([
    import('./read-settings.ts'),
    import('./open-destination.ts'),
    import('./tree-jobs.ts'),
  ]);
  const open = (given: Record<string, string>) => {
    // Where the SDK looks for a profile or role. The key itself is not put where programs inherit it.
    for (const name of AWS_ENVIRONMENT) if (given[name]) io.env[name] = given[name];
    const settings = readSettings({ ...io.env, ...given });
    return { destination: openDestination(settings, { env: io.env, hurry: io.signal }), keys: settings.keys };
  };
  await treeJobMain(io.stdin, io.out, open, io.signal);
  return EXIT.done;
}

async function showPlan(call: Call): Promise<number> {
  const { app, io } = call;
  const { probe } = await import('./probe.ts');
  const { renderPlan } = await import('./report/listing.ts');
  const plan = await app.plan();
  const { probes, problems } = await probe(plan, {
    project: app.project,
    agentMounts: app.self.facts.mounts,
    treeStore: app.treeStore,
    state: app.state,
    openTools: (source, context) => app.openTools(source, { ...context, recordHelper: () => undefined }),
  });
  const { bucketProblems } = await import('./bucket-commands.ts');
  const held = heldProblems(await heldServices(app.journals, await app.runsUnderWay()));
  plan.problems.push(...problems, ...held, ...(await bucketProblems(app.settings, io.env)));
  const { error } = await app.own.look();
  // What is mounted wrongly is among the problems of the plan.
  if (error && !plan.problems.some(({ code }) => code === error.code)) {
    plan.problems.unshift({ severity: 'error', subject: 'LIFEBOAT_DESTINATION', ...errorInfo(error) });
  }
  const nextRun = app.nextRun(plan);
  const free = await statfs(app.settings.destination).then(
    ({ bavail, bsize }) => bavail * bsize,
    () => undefined,
  );
  const sources = plan.sources.map(({ name, kind, service, containerName, schedule, keep }) => {
    return { name, kind, service, container: containerName, schedule, keep, ...probes.get(name) };
  });
  const destination = app.destination.name;
  const copies = app.settings.copies.map(({ name, keep }) => ({ name, ...(keep ? { keep } : {}) }));
  print(
    call,
    { project: plan.project, sources, problems: plan.problems, nextRun: nextRun.toISOString(), destination, copies },
    () =>
      renderPlan({
        plan,
        probes,
        nextRun,
        now: new Date(),
        zone: app.settings.timeZone,
        destination,
        copies,
        encryption: encryptionText(app.settings.keys),
        ...(free === undefined ? {} : { free }),
        paint: io.paint,
      }),
  );
  if (plan.sources.length === 0) return EXIT.nothing;
  return plan.problems.some(({ severity }) => severity === 'error') ? EXIT.partial : EXIT.done;
}

async function backup(call: Call): Promise<number> {
  const { app, io, operands, json } = call;
  const names = (operands[0] ?? []) as string[];
  if (names.length > 0) await checkNames(app, names);
  const { createProgress } = await import('./report/progress.ts');
  const { renderReport } = await import('./report/text.ts');
  const display = json ? undefined : createProgress(io.terminal, { paint: io.paint });
  const report = await app.backup(
    { trigger: 'manual', signal: io.signal, ...(names.length > 0 ? { only: ({ name }) => names.includes(name) } : {}) },
    display ? [display] : [],
  );
  display?.close();
  const zone = app.settings.timeZone;
  print(call, report, () => renderReport(report, { now: new Date(), zone, paint: io.paint }));
  return reportStatus(report);
}

async function checkNames(app: App, names: readonly string[]): Promise<void> {
  const known = (await app.plan()).sources.map(({ name }) => name);
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length === 0) return;
  throw new LifeboatError('SOURCE_UNKNOWN', `no source is named ${unknown.join(', ')}`, {
    hint: known.length > 0 ? `There is: ${known.join(', ')}.` : 'No source is known; see `lifeboat plan`.',
  });
}

function reportStatus(report: RunReport): number {
  if (report.error?.code === 'INTERRUPTED') return EXIT.interrupted;
  if (report.error?.code === 'LOCKED') return EXIT.locked;
  if (report.error?.code === 'NOTHING_LABELLED') return EXIT.nothing;
  return { ok: EXIT.done, partial: EXIT.partial, failed: EXIT.failed }[report.status];
}

async function testNotify(call: Call): Promise<number> {
  const { testNotifiers } = await import('./report/notifier.ts');
  const results = await testNotifiers(call.app.notifiers);
  print(call, results, () =>
    results.length === 0
      ? 'No notifier is set up: see LIFEBOAT_HEALTHCHECKS_URL and LIFEBOAT_SLACK_WEBHOOK_URL.'
      : results
          .map(
            ({ name, ok, detail, error }) =>
              `${name}: ${ok ? (detail ?? 'ok') : `failed, ${error?.message} (${error?.code})`}`,
          )
          .join('\n'),
  );
  if (results.length === 0) return EXIT.nothing;
  return results.every(({ ok }) => ok) ? EXIT.done : EXIT.failed;
}
