import { Command, CommanderError, Option } from 'commander';
import { errorInfo, hasCode, LifeboatError } from './base/errors.ts';
import { EXIT, exitStatus } from './base/exit.ts';
import { readVersion } from './base/version.ts';
import { setupCommands } from './cli-setup.ts';
import { type Builder, createBuilder, termOf } from './commands/builder.ts';
import type { Io } from './commands/call.ts';
import {
  absolute,
  addDrillOptions,
  addDrillsOptions,
  addPointOptions,
  count,
  gather,
  moment,
  share,
  webAddress,
} from './commands/option-values.ts';
import { processIo } from './commands/run.ts';

/**
 * Defines all commands with their arguments.
 *
 * @param done receives the exit status of the command that ran
 * @param err receives the words about a command line that is wrong
 */
export function createProgram(io: Io, done: (status: number) => void, err = io.err): Command {
  const program = new Command('lifeboat')
    .description('Back up the Postgres databases and volumes of a Compose project, and restore them')
    .version(readVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .exitOverride()
    .configureOutput({ writeOut: io.out, writeErr: err })
    .configureHelp({ subcommandTerm: termOf })
    .showHelpAfterError('(lifeboat --help lists the commands)');
  const builder = createBuilder(program, io, done);
  program.commandsGroup('Back up:');
  backupCommands(builder);
  program.commandsGroup('Inspect:');
  inspectCommands(builder);
  program.commandsGroup('Restore:');
  restoreCommands(builder);
  program.commandsGroup('Exchange plain files:');
  archiveCommands(builder);
  program.commandsGroup('Manage snapshots and copies:');
  retentionCommands(builder);
  program.commandsGroup(LAST_GROUP);
  setupCommands(builder, { program, io, done });
  program.addHelpCommand(
    new Command('help').argument('[command]').description('Print help for a command').helpGroup(LAST_GROUP),
  );
  program.command('version', { hidden: true }).action(() => io.out(`${readVersion()}\n`));
  for (const name of ['tree-job', 'source-names']) program.command(name, { hidden: true }).action(builder.act(name));
  return program;
}

const LAST_GROUP = 'Manage the setup:';

function backupCommands({ program, command, act }: Builder): void {
  command('plan', 'Show what will be backed up and when, and report problems', 'plan')
    .addOption(
      new Option(
        '--from-labels <program>',
        'instead translate the labels of another program into those of Lifeboat',
      ).choices(['offen', 'stack-back']),
    )
    .action(act('plan'));
  command(
    'backup [source...]',
    'Back up all sources now, or only those named. A base backup that is not due needs its name',
    'backup db.postgres',
  ).action(act('backup'));
  program
    .command('daemon')
    .description('Back up on schedule until stopped (the container runs this command)')
    .helpOption('-h, --help', 'print help')
    .option('--json', 'has no effect: LOG_FORMAT sets the format of the log')
    .addHelpText('after', '\nExample:\n  docker compose up --detach lifeboat')
    .action(act('daemon'));
}

function inspectCommands({ command, reading, act }: Builder): void {
  command('status', 'Show the last and the next run, and the state of each source', 'status')
    .option('--all-hosts', 'instead show all projects at the destination, as their snapshots show them')
    .action(act('status'));
  reading(command('snapshots', 'List snapshots, newest first', 'snapshots')).action(act('snapshots'));
  reading(
    command(
      'show <snapshot> [source] [path]',
      'Show a snapshot, one of its sources, or the files of a source',
      'show latest web.media "**/*.png"',
    ),
  ).action(act('show'));
  reading(command('windows [source]', 'Show to which times databases can be recovered', 'windows db.postgres')).action(
    act('windows'),
  );
  reading(command('check', 'Verify that the repository is complete and undamaged', 'check --read-data 10%'))
    .option(
      '--read-data [share]',
      'also read and hash all data, or only a share such as 10%; each check reads a different share',
      share,
    )
    .action(act('check'));
}

function restoreCommands({ command, reading, act }: Builder): void {
  const restore = command(
    'restore <snapshot> [source...]',
    'Restore sources: build them alongside the live data, compare, then swap',
    [
      'restore latest db.postgres --database shop --to-database shop_then',
      'restore db.postgres --at "2026-11-20 14:30:00+01" --database shop --to-database shop_then',
    ],
  );
  addPointOptions(reading(restore))
    .option('--all', 'restore all sources of the project, with its services stopped once')
    .option('--into-project <name>', 'restore into this Compose project, a copy of yours, and leave yours alone')
    .option('--database <name>', 'restore only this database')
    .option('--to-database <name>', 'restore the database under this name, and leave the current one alone')
    .option('--to-directory <dir>', 'restore files into this empty directory of the Lifeboat container', absolute)
    .option('--to <source>', 'restore into the databases or the volume of another source')
    .option('--table <schema.name>', 'restore only this table (repeatable)', gather)
    .option('--as <name>', 'with one --table: restore it under this name in the same schema')
    .option('--path <glob>', 'restore only these files (repeatable)', gather)
    .option('--overwrite', 'with --path: also replace files that are newer than the snapshot')
    .option('--globals', 'create all roles of the snapshot that the server lacks, not only those that the data needs')
    .option('--skip-failed', 'restore everything that the server accepts, and list what it refuses')
    .option('--unsigned', 'with LIFEBOAT_SIGNING_KEY: accept a snapshot without a signature')
    .option('--dry-run', 'show what would change, and change nothing')
    .option('--no-safety', 'take no safety snapshot, for a database that is too broken to dump')
    .option('--no-stop', 'do not stop the services that use the data')
    .option('--live', 'stop services only for the swap, not while Lifeboat builds databases')
    .option('--health-url <url>', 'request this URL afterwards, and expect a 2xx response', webAddress)
    .option('--yes', 'do not ask for confirmation')
    .action(act('restore'));
  addDrillOptions(
    reading(command('drill [source...]', 'Restore into throwaway containers, and compare everything', 'drill')),
  ).action(act('drill'));
  addDrillsOptions(
    reading(command('drills [id]', 'Show the evidence of drills, or of one drill', 'drills --since 90d --format md')),
  ).action(act('drills'));
  command('rollback [restore]', 'Bring back the data that a restore replaced (repeat to undo)', 'rollback')
    .option('--forget', 'permanently delete the data that is not in use')
    .option('--dry-run', 'show what would change, and change nothing')
    .option('--no-stop', 'do not stop the services that use the data')
    .option('--health-url <url>', 'request this URL afterwards, and expect a 2xx response', webAddress)
    .option('--yes', 'do not ask for confirmation')
    .action(act('rollback'));
}

function archiveCommands({ command, reading, act }: Builder): void {
  reading(
    command(
      'export <snapshot> <source> [path]',
      'Write a source to stdout as a plain zip or tar',
      'export latest web.media > media.zip',
    ),
  )
    .addOption(new Option('--format <format>', 'format of the archive (default: zip)').choices(['zip', 'tar']))
    .option('--to <file>', 'write to this file of the Lifeboat container; a name ending in .tar selects tar', absolute)
    .option('--overwrite', 'with --to: replace an existing file')
    .option('--unsigned', 'with LIFEBOAT_SIGNING_KEY: accept a snapshot without a signature')
    .action(act('export'));
  command(
    'import <file> <source>',
    'Make a snapshot from an archive or dump of another program (- reads stdin)',
    'import - web.media --at 2024-05-01T03:00Z < media.tar.gz',
  )
    .option(
      '--at <time>',
      'when the backup was made, with a time zone (default: the time of the file; required for stdin)',
      moment,
    )
    .option('--database <name>', 'name of the database, if the dump does not name it (default: from the settings)')
    .option('--strip <count>', 'remove this many leading directories from each name', count)
    .action(act('import'));
}

function retentionCommands({ command, act }: Builder): void {
  command('prune', 'Remove snapshots that retention no longer keeps, and say why', 'prune --dry-run')
    .option('--dry-run', 'show what would be removed, and remove nothing')
    .option('--clock-is-right', 'prune even if the newest snapshots are months apart, or the last one is months old')
    .option('--max-unused <percent>', 'with --dry-run: LIFEBOAT_MAX_UNUSED, to see its effect', share)
    .action(act('prune'));
  command('forget <snapshot>', 'Give up a snapshot with an unreadable manifest', 'forget 20261120T0300 --unreadable')
    .requiredOption('--unreadable', 'confirm that its manifest cannot be read')
    .option('--dry-run', 'show what would be given up, and change nothing')
    .option('--yes', 'do not ask for confirmation')
    .action(act('forget'));
  command('pin <snapshot>', 'Keep a snapshot until you unpin it', 'pin latest --reason "before deploy 4.2"')
    .option('--reason <text>', 'the reason, which `snapshots` and `prune` show')
    .action(act('pin'));
  command(
    'unpin <snapshot>',
    'Release a pinned snapshot: retention decides about it again',
    'unpin 20261120T030000Z',
  ).action(act('unpin'));
  command('copy', 'Bring the copies up to date', 'copy')
    .option('--from <location>', 'instead bring everything that this copy has back to the destination')
    .option('--project <name>', 'with --from: select a Compose project if the copy holds several')
    .action(act('copy'));
}

/** Runs a command line. Resolves to the exit status, and never rejects. */
async function main(argv: readonly string[], io: Io): Promise<number> {
  let status: number = EXIT.done;
  const json = argv.includes('--json');
  const done = (result: number) => {
    status = result;
  };
  try {
    await createProgram(io, done, json ? () => undefined : io.err).parseAsync(argv, { from: 'user' });
    return status;
  } catch (error) {
    if (error instanceof CommanderError) {
      if (error.exitCode === 0) return EXIT.done;
      if (json) await io.fail(errorInfo(usageError(error)), json);
      return EXIT.usage;
    }
    // A request that was abandoned because the process must end says nothing about the server.
    const hurried = io.signal.aborted && hasCode(error, 'DEST_UNREACHABLE');
    const why: unknown = hurried ? io.signal.reason : error;
    await io.fail(errorInfo(why), json);
    return exitStatus(why);
  }
}

/**
 * Commander's message is its text for a terminal: `error: unknown option '--jsn'`, then a suggestion in a second line.
 */
function usageError({ message }: CommanderError): LifeboatError {
  const text = message.replace(/^error: /, '').replace(/\s+/g, ' ');
  return new LifeboatError('USAGE', text, { hint: '`lifeboat --help` lists the commands.' });
}

if (import.meta.main) {
  const io = processIo();
  process.exitCode = await main(process.argv.slice(2), io);
  io.end();
}
