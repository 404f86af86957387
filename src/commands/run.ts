import { projectOfRestore } from '../app/into-project.ts';
import { hintAtCopies, type OtherRepository } from '../app/other-repository.ts';
import { hasErrno, LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { redactDeep } from '../base/redact.ts';
import { asDocument } from '../report/json-document.ts';
import { ansiPaint, plainPaint } from '../report/paint.ts';
import { type Call, type Io, type Operands, type Options, print } from './call.ts';

/** Connects a command to the streams and signals of this process. */
export function processIo(): Io {
  const stop = new AbortController();
  const interrupt = () => stop.abort(new LifeboatError('INTERRUPTED', 'the run was asked to stop'));
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, interrupt);
  process.stdout.on('error', (error) => {
    // A program such as `head` may stop reading early. An export reports that by itself.
    if (!hasErrno(error, 'EPIPE')) throw error;
  });
  const paint = process.stdout.isTTY && !process.env.NO_COLOR ? ansiPaint : plainPaint;
  return {
    env: process.env,
    stdin: process.stdin,
    stdout: process.stdout,
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    terminal: process.stderr,
    paint,
    signal: stop.signal,
    async fail(error, json) {
      const clean = redactDeep(error);
      if (json) process.stdout.write(`${JSON.stringify(asDocument({ error: clean }))}\n`);
      else {
        const { renderError } = await import('../report/text.ts');
        process.stderr.write(`${renderError(clean, { paint })}\n`);
      }
    },
    end() {
      for (const name of ['SIGTERM', 'SIGINT'] as const) {
        // The result is printed, so a signal no longer changes it.
        process.on(name, () => process.exit());
        process.off(name, interrupt);
      }
    },
  };
}

/** Runs one command. Resolves to its exit status. */
export async function run(name: string, operands: Operands, options: Options, io: Io): Promise<number> {
  if (name === 'tree-job') return (await import('./tree-job.ts')).treeJob(io);
  if (name === 'source-names') {
    await (await import('../setup/source-names.ts')).printSourceNames(io.out);
    return EXIT.done;
  }
  // A machine that only gets its Compose file has no settings yet.
  if (name === 'init') {
    const { runInit } = await import('../setup/init-command.ts');
    return runInit(options, io, (result, text) => print({ io, json: options.json === true }, 'init', result, text));
  }
  const { createApp, createBase } = await import('../app/app.ts');
  const level = io.env.LOG_LEVEL ?? (name === 'daemon' ? undefined : 'warn');
  // JSON lines would break up the progress display of a terminal. Debugging needs all their fields.
  const forPeople = name !== 'daemon' && io.terminal.isTTY && level !== 'debug' && level !== 'trace';
  const env = level === undefined ? io.env : { ...io.env, LOG_LEVEL: level };
  const base = createBase(env, { write: io.err, forPeople, isTerminal: io.terminal.isTTY === true });
  const json = options.json === true;
  if (name.startsWith('bucket-')) {
    const { bringBack, policy, setup } = await import('./bucket.ts');
    const verb = { 'bucket-setup': setup, 'bucket-policy': policy, 'bucket-undelete': bringBack }[name];
    // These need no engine: the host may be gone when somebody has to manage its bucket.
    if (verb) return verb({ settings: base.settings, io, options, json });
  }
  const into = name === 'rollback' ? await projectOfRestore(operands[0] as string | undefined) : undefined;
  const app = await createApp({ ...base, hurry: io.signal }, otherRepositoryOf(options, into));
  const command = COMMANDS[name];
  if (!command) throw new LifeboatError('USAGE', `no command ${name}`);
  return command({ app, io, operands, options, json }).catch((error: unknown) => {
    throw app.otherRepository || !CAN_READ_COPIES.has(name) ? error : hintAtCopies(error, app.settings);
  });
}

/** The commands that take --from. */
const CAN_READ_COPIES = new Set(['restore', 'drill', 'drills', 'export', 'snapshots', 'show', 'windows', 'check']);

/** @param copy the project into which the restore went that a rollback is about, if it was not the agent's own */
function otherRepositoryOf({ from, project, intoProject }: Options, copy?: string): OtherRepository | undefined {
  const into = intoProject ?? copy;
  if (typeof from !== 'string' && typeof into !== 'string') return undefined;
  return {
    ...(typeof from === 'string' ? { from } : {}),
    ...(typeof project === 'string' ? { project } : {}),
    ...(typeof into === 'string' ? { into } : {}),
  };
}

const COMMANDS: Record<string, (call: Call) => Promise<number>> = {
  daemon: async ({ app, io }) => {
    await app.daemon(io.signal);
    return EXIT.done;
  },
  plan: async (call) => (await import('./plan.ts')).showPlan(call),
  backup: async (call) => (await import('./backup.ts')).backup(call),
  restore: async (call) => (await import('./restore.ts')).restore(call),
  drill: async (call) => (await import('./drill.ts')).drill(call),
  drills: async (call) => (await import('./drill.ts')).drills(call),
  export: async (call) => (await import('./archives.ts')).exportArchive(call),
  import: async (call) => (await import('./archives.ts')).importBackup(call),
  rollback: async (call) => (await import('./rollback.ts')).rollback(call),
  snapshots: async (call) => (await import('./snapshots.ts')).listSnapshots(call),
  show: async (call) => (await import('./show.ts')).show(call),
  status: async (call) => (await import('./status.ts')).status(call),
  windows: async (call) => (await import('./windows.ts')).showWindows(call),
  check: async (call) => (await import('./check.ts')).checkRepository(call),
  copy: async (call) => (await import('./copy.ts')).copy(call),
  forget: async (call) => (await import('./forget.ts')).forget(call),
  prune: async (call) => (await import('./prune.ts')).prune(call),
  pin: async (call) => (await import('./pin.ts')).pin(call),
  unpin: async (call) => (await import('./pin.ts')).unpin(call),
  accept: async (call) => (await import('./accept.ts')).accept(call),
  'notify-test': async (call) => (await import('./notify-test.ts')).testNotify(call),
};
