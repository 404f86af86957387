import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { errorInfo, hasCode } from './base/errors.ts';
import { EXIT, exitStatus } from './base/exit.ts';
import { readVersion } from './base/version.ts';
import type { Io } from './commands/call.ts';
import { processIo, run } from './commands/run.ts';

/** How the commands are built: all of them alike, and each with an example. */
interface Builder {
  program: Command;
  /** A command of the program, or of another one. */
  command(usage: string, description: string, example: string, of?: Command): Command;
  /** The command can read from elsewhere too. */
  reading(of: Command): Command;
  act(name: string): (...args: unknown[]) => Promise<void>;
}

/** All commands with their arguments. Parsing does nothing but call `io`. */
export function createProgram(io: Io, done: (status: number) => void): Command {
  const program = new Command('lifeboat')
    .description('backs up labelled Postgres databases and volumes of a Compose project, and brings them back')
    .version(readVersion(), '-V, --version', 'print the version')
    .exitOverride()
    .configureOutput({ writeOut: io.out, writeErr: io.err })
    .showHelpAfterError('(lifeboat --help shows every command)');
  const builder = createBuilder(program, io, done);
  const { command, reading, act } = builder;
  program
    .command('daemon')
    .description('back up on schedule until stopped: what the container runs by itself')
    .option('--json', 'taken as by every command; the log is JSON lines anyway')
    .addHelpText('after', '\nExample:\n  docker compose up --detach lifeboat')
    .action(act('daemon'));
  command('plan', 'show what will be backed up, when, and what is not as it should be', 'plan').action(act('plan'));
  command('backup [source...]', 'back up now: everything, or the sources named', 'backup db.postgres').action(
    act('backup'),
  );
  reading(command('snapshots', 'list snapshots, newest first', 'snapshots')).action(act('snapshots'));
  reading(
    command(
      'show <snapshot> [source] [path]',
      'show a snapshot, a source of it, or the files of one',
      'show latest web.media "**/*.png"',
    ),
  ).action(act('show'));
  restoreCommands(builder);
  reading(command('check', 'look whether the repository is whole', 'check --read-data 10%'))
    .option(
      '--read-data [share]',
      'also read and hash everything, or a share such as 10% that moves on each time',
      share,
    )
    .action(act('check'));
  keepCommands(builder);
  command('status', 'show the last run, the next one, and how each source stands', 'status').action(act('status'));
  bucketCommands(builder);
  const notify = program.command('notify').description('work with notifications');
  command('test', 'send a test message to every notifier', 'notify test', notify).action(act('notify-test'));
  program.command('tree-job', { hidden: true }).action(act('tree-job'));
  return program;
}

function createBuilder(program: Command, io: Io, done: (status: number) => void): Builder {
  return {
    program,
    command: (usage, description, example, of = program) =>
      of
        .command(usage)
        .description(description)
        .option('--json', 'one JSON document on stdout; logs go to stderr')
        .addHelpText('after', `\nExample:\n  docker compose exec lifeboat lifeboat ${example}`),
    reading: (of) =>
      of
        .option('--from <location>', 'read from elsewhere: a copy by name or number, a directory, or s3://…')
        .option('--project <name>', 'with --from: the Compose project in it, if it holds several'),
    act:
      (name) =>
      async (...args) => {
        // Commander hands over the operands, the options and the command itself.
        const options = args.at(-2) as Record<string, unknown>;
        done(await run(name, args.slice(0, -2) as (string | string[] | undefined)[], options, io));
      },
  };
}

function restoreCommands({ command, reading, act }: Builder): void {
  reading(
    command(
      'restore <snapshot> <source>',
      'bring a source back: beside what is there, compared, then swapped',
      'restore latest db.postgres --database shop --to-database shop_then',
    ),
  )
    .option('--database <name>', 'only this database of the snapshot')
    .option('--to-database <name>', 'restore the database under this name, beside the present one')
    .option('--to-directory <dir>', 'restore the files into this empty directory of the Lifeboat container', absolute)
    .option('--to <source>', 'restore into the databases or volume of this source instead')
    .option('--table <schema.name>', 'only this table; may be given several times', gather)
    .option('--as <name>', 'name for the one table, in the same schema')
    .option('--path <glob>', 'only these files; may be given several times', gather)
    .option('--overwrite', 'with --path: replace files that are newer than the snapshot too')
    .option('--globals', 'create all roles of the snapshot that the server lacks')
    .option('--skip-failed', 'restore all that the server takes, and list what it refuses')
    .option('--unsigned', 'with LIFEBOAT_SIGNING_KEY: also from a snapshot without a signature')
    .option('--dry-run', 'only show what would be done')
    .option('--no-safety', 'take no safety snapshot of what is replaced: for a database too broken to dump')
    .option('--no-stop', 'leave the services running that use the data')
    .option('--health-url <url>', 'ask this URL afterwards; it must answer 2xx', webAddress)
    .option('--yes', 'do not ask')
    .action(act('restore'));
  reading(
    command(
      'export <snapshot> <source> [path]',
      'write the files of a source, or its database dumps, as a plain zip or tar to stdout',
      'export latest web.media > media.zip',
    ),
  )
    .addOption(new Option('--format <format>', 'the form of the archive (default: zip)').choices(['zip', 'tar']))
    .option(
      '--to <file>',
      'write to this file of the Lifeboat container instead; .tar at its end chooses tar',
      absolute,
    )
    .option('--overwrite', 'with --to: replace a file that is there')
    .option('--unsigned', 'with LIFEBOAT_SIGNING_KEY: also from a snapshot without a signature')
    .action(act('export'));
  command(
    'import <file> <source>',
    'make a snapshot of a backup that something else made: a file in the Lifeboat container, or - for stdin',
    'import - web.media --at 2024-05-01T03:00Z < media.tar.gz',
  )
    .option('--at <time>', 'when the backup was made, with its zone (default: the time of the file)', moment)
    .option('--strip <count>', 'leave out that many leading parts of each name, as tar does', parts)
    .action(act('import'));
  command('rollback [restore]', 'bring back what a restore replaced; the same again undoes it', 'rollback')
    .option('--forget', 'drop the data that is not in use, for good')
    .option('--no-stop', 'leave the services running that use the data')
    .option('--health-url <url>', 'ask this URL afterwards; it must answer 2xx', webAddress)
    .option('--yes', 'do not ask')
    .action(act('rollback'));
}

function keepCommands({ command, act }: Builder): void {
  command('copy', 'bring the copies up to date now', 'copy')
    .option('--from <location>', 'the other way: bring the destination everything that a copy has')
    .option('--project <name>', 'with --from: the Compose project in it, if it holds several')
    .action(act('copy'));
  command('prune', 'remove the snapshots that need not be kept, and tell why each is or is not', 'prune --dry-run')
    .option('--dry-run', 'only show what would be removed')
    .option('--clock-is-right', 'prune although months lie between the newest snapshots, or since then')
    .action(act('prune'));
  command('pin <snapshot>', 'keep a snapshot until it is unpinned', 'pin latest --reason "before deploy 4.2"')
    .option('--reason <text>', 'why, for whoever finds it')
    .action(act('pin'));
  command('unpin <snapshot>', 'keep a snapshot no longer than the others', 'unpin 20261120T030000Z').action(
    act('unpin'),
  );
  command(
    'accept <source>',
    'say that a source is gone, empty or smaller, a copy is empty, or the destination is another one, on purpose',
    'accept web.media',
  ).action(act('accept'));
}

function bucketCommands({ program, command, act }: Builder): void {
  const bucket = program.command('bucket').description('look after the bucket of the backups');
  const elsewhere = ['--destination <address>', 'another bucket: s3://bucket/prefix?…'] as const;
  command('setup', 'show what the bucket should be set to; with --yes, set it', 'bucket setup --lock 30d', bucket)
    .option('--infrequent-after <days>', 'move objects to STANDARD_IA after that many days', days)
    .option('--keep-removed <days>', 'how long what was removed can be brought back (30d, or as --lock)', days)
    .option('--archive-removed-after <days>', 'move what was removed to GLACIER after that many days', days)
    .option('--deep-archive', 'with it: to DEEP_ARCHIVE instead')
    .option('--lock <days>', 'lock what is stored for that many days (Object Lock)', days)
    .addOption(new Option('--lock-mode <mode>', 'who may lift it').choices(['governance', 'compliance']))
    .option('--whole-bucket', 'set what counts for the whole bucket also where others store in it')
    .option(...elsewhere)
    .option('--yes', 'set it')
    .action(act('bucket-setup'));
  command('policy', 'print the least policy that the key of Lifeboat needs', 'bucket policy --append-only', bucket)
    .option('--append-only', 'one that can delete nothing')
    .option('--lock <days>', 'with the rights that a bucket with such a lock takes', days)
    .option('--principal <arn>', 'as the policy of the bucket, for this user')
    .option(...elsewhere)
    .action(act('bucket-policy'));
  command(
    'undelete',
    'make the repository what it was at a time, out of the versions that the bucket kept',
    'bucket undelete --before 2026-11-20T00:00Z',
    bucket,
  )
    .requiredOption('--before <time>', 'the time, with its zone', moment)
    .option(...elsewhere)
    .option('--yes', 'do it; without, only show')
    .action(act('bucket-undelete'));
}

/** `30d` or `30` → 30. */
function days(value: string): number {
  const count = Number(/^(\d{1,5})d?$/.exec(value)?.[1] ?? 0);
  if (count > 0) return count;
  throw new InvalidArgumentError('it must be a number of days, such as 30d.');
}

function parts(value: string): number {
  if (/^\d{1,2}$/.test(value)) return Number(value);
  throw new InvalidArgumentError('it must be a number, such as 1.');
}

function moment(value: string): Date {
  const time = new Date(value);
  if (/^\d{4}-\d\d-\d\dT\d\d:\d\d.*(?:Z|[+-]\d\d:?\d\d)$/.test(value) && !Number.isNaN(time.getTime())) return time;
  throw new InvalidArgumentError('it must be a time with its zone, such as 2026-11-20T00:00Z.');
}

/** `10%` → 0.1. Commander hands `true` for the option without a value. */
function share(value: string): number {
  const match = /^(\d{1,3}(?:\.\d+)?)%$/.exec(value);
  const percent = match ? Number(match[1]) : 0;
  if (percent > 0 && percent <= 100) return percent / 100;
  throw new InvalidArgumentError('it must be a share from above 0% to 100%.');
}

function gather(value: string, before: string[] = []): string[] {
  return [...before, value];
}

function webAddress(value: string): URL {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url;
  throw new InvalidArgumentError('it must be an http or https address.');
}

function absolute(value: string): string {
  if (value.startsWith('/')) return value;
  throw new InvalidArgumentError('it must be an absolute path inside the Lifeboat container.');
}

/** Runs the command line; resolves to the exit status. Never rejects. */
async function main(argv: readonly string[], io: Io): Promise<number> {
  let status: number = EXIT.done;
  try {
    const program = createProgram(io, (result) => {
      status = result;
    });
    await program.parseAsync(argv, { from: 'user' });
    return status;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
    // A request that is given up because the process is to end says nothing of the server.
    const hurried = io.signal.aborted && hasCode(error, 'DEST_UNREACHABLE');
    const why: unknown = hurried ? io.signal.reason : error;
    await io.fail(errorInfo(why), argv.includes('--json'));
    return exitStatus(why);
  }
}

if (import.meta.main) {
  const io = processIo();
  process.exitCode = await main(process.argv.slice(2), io);
  io.end();
}
