import type { Command } from 'commander';
import { EXIT } from './base/exit.ts';
import type { Builder } from './commands/builder.ts';
import { type Io, print } from './commands/call.ts';
import { addBucketOptions, days, gather, moment } from './commands/option-values.ts';

/** The program that the commands belong to. */
interface Surroundings {
  program: Command;
  io: Io;
  done: (status: number) => void;
}

/** Defines the commands that set Lifeboat up, and that manage its bucket and its notifiers. */
export function setupCommands(builder: Builder, surroundings: Surroundings): void {
  const { group, command, act } = builder;
  command(
    'init',
    'Propose labels and the service for your Compose file, and write them with --yes',
    'docker run --rm -v ./:/project lifeboat init',
  )
    .option('-f, --file <path>', 'read and change this Compose file (repeatable)', gather)
    .option(
      '--directory <path>',
      'the project directory (default: /project if it is mounted, or the current directory)',
    )
    .option('--image <name>', 'the image of the service (default: the image that runs this)')
    .option('--yes', 'write the changes')
    .action(act('init'));
  completionCommand(builder, surroundings);
  command(
    'accept <name>',
    'Confirm that a source, a copy or the destination changed on purpose',
    'accept web.media',
  ).action(act('accept'));
  bucketCommands(builder);
  const notify = group('notify', 'Test notifications');
  command('test', 'Send a test message to every notifier', 'notify test', notify).action(act('notify-test'));
}

function bucketCommands({ group, command, act }: Builder): void {
  const bucket = group('bucket', 'Manage an S3 bucket');
  const other = ['--destination <address>', 'use another bucket: s3://bucket/prefix?…'] as const;
  addBucketOptions(
    command(
      'setup',
      'Show the recommended settings of the bucket; apply them with --yes',
      'bucket setup --lock 30d',
      bucket,
    ),
  )
    .option('--whole-bucket', 'change settings of the whole bucket, even if it also holds other data')
    .option(...other)
    .option('--yes', 'apply the settings')
    .action(act('bucket-setup'));
  command('policy', "Print the smallest policy that Lifeboat's key needs", 'bucket policy --append-only', bucket)
    .option('--append-only', 'grant no right to delete')
    .option('--lock <days>', 'grant the rights that a bucket with this lock needs', days)
    .option('--principal <arn>', 'print a bucket policy for this user')
    .option(...other)
    .action(act('bucket-policy'));
  command(
    'undelete',
    'Bring the repository back to an earlier state, from the versions in the bucket',
    'bucket undelete --before 2026-11-20T00:00Z',
    bucket,
  )
    .requiredOption('--before <time>', 'the time to return to, with a time zone', moment)
    .option(...other)
    .option('--yes', 'apply the changes')
    .action(act('bucket-undelete'));
}

function completionCommand({ command }: Builder, { program, io, done }: Surroundings): void {
  command(
    'completion <shell>',
    'Print a completion script for bash, zsh or fish',
    'completion bash > ~/.lifeboat-completion.bash',
  ).action(async (shell: string, options: { json?: boolean }) => {
    const { completionScript } = await import('./setup/completion.ts');
    const script = completionScript(program, shell);
    print({ io, json: options.json === true }, 'completion', { shell, script }, () => script.trimEnd());
    done(EXIT.done);
  });
}
