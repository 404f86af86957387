import { type Command, InvalidArgumentError, Option } from 'commander';
import { LifeboatError } from '../base/errors.ts';
import { type PointInTime, parsePointInTime, parseTimeAgo } from '../plan/values/point-in-time.ts';
import type { Aim } from '../restore/point/find-start.ts';

/** Parsers of option values. Each throws commander's InvalidArgumentError, which ends with exit status 2. */

/** `30d` or `30` → 30. */
export function days(value: string): number {
  const count = Number(/^(\d{1,5})d?$/.exec(value)?.[1] ?? 0);
  if (count > 0) return count;
  throw new InvalidArgumentError('Give a number of days, such as 30d.');
}

/** The number of a timeline: Postgres counts them from 1, with 32 bits. */
function timeline(value: string): number {
  if (/^[1-9]\d{0,9}$/.test(value)) return Number(value);
  throw new InvalidArgumentError('Give the number of a timeline, such as 1.');
}

export function count(value: string): number {
  if (/^\d{1,2}$/.test(value)) return Number(value);
  throw new InvalidArgumentError('Give a number, such as 1.');
}

export function moment(value: string): Date {
  const time = new Date(value);
  if (/^\d{4}-\d\d-\d\dT\d\d:\d\d.*(?:Z|[+-]\d\d:?\d\d)$/.test(value) && !Number.isNaN(time.getTime())) return time;
  throw new InvalidArgumentError('Give a time with its zone, such as 2026-11-20T00:00Z.');
}

/** A time to the microsecond, a time before now, or `latest`. */
function point(value: string): PointInTime | 'latest' {
  if (value === 'latest') return value;
  const parsed = parsePointInTime(value) ?? parseTimeAgo(value, new Date());
  if (parsed) return parsed;
  throw new InvalidArgumentError(
    'Give a time with its zone, such as "2026-11-20 14:30:00+01", a time before now, such as 10m or "30 seconds ago", or latest.',
  );
}

/** A position in the WAL, such as `0/3000060`. */
function position(value: string): string {
  if (/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/i.test(value)) return value.toUpperCase();
  throw new InvalidArgumentError('Give a position as pg_current_wal_lsn() prints it, such as 0/3000060.');
}

/** A transaction id, as `pg_current_xact_id()` prints it. */
function transaction(value: string): string {
  if (/^[1-9]\d{0,18}$/.test(value)) return value;
  throw new InvalidArgumentError('Give a number as pg_current_xact_id() prints it.');
}

/** `10%` → 0.1. */
export function share(value: string): number {
  const match = /^(\d{1,3}(?:\.\d+)?)%$/.exec(value);
  const percent = match ? Number(match[1]) : 0;
  if (percent > 0 && percent <= 100) return percent / 100;
  throw new InvalidArgumentError('Give a share above 0% and up to 100%.');
}

/** Collects the values of an option that may be repeated. */
export function gather(value: string, before: string[] = []): string[] {
  return [...before, value];
}

export function webAddress(value: string): URL {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url;
  throw new InvalidArgumentError('Give an http or https address.');
}

export function absolute(value: string): string {
  if (value.startsWith('/')) return value;
  throw new InvalidArgumentError('Give an absolute path inside the Lifeboat container.');
}

/** A restore point of at most 63 bytes. An empty name would mean the end of the WAL. */
function restorePoint(value: string): string {
  if (value !== '' && Buffer.byteLength(value) <= 63) return value;
  throw new InvalidArgumentError('Give the name of a restore point, up to 63 bytes.');
}

/** Adds the options of a recovery to a point in time. */
export function addPointOptions(command: Command): Command {
  return command
    .option(
      '--at <time>',
      'recover a database server to this time, with a time zone, to `10m ago`, or to `latest`',
      point,
    )
    .option('--lsn <position>', 'recover a database server to this position in the write-ahead log', position)
    .option('--xid <id>', 'recover a database server to the end of this transaction', transaction)
    .option(
      '--name <name>',
      'recover a database server to this restore point of pg_create_restore_point()',
      restorePoint,
    )
    .option('--timeline <number>', 'with --at, --lsn, --xid or --name: the point is on this timeline', timeline)
    .option('--to-volume <name>', 'with --at, --lsn, --xid or --name: put the recovered data into this new volume')
    .option('--in-place', 'with --at, --lsn, --xid or --name: replace the data directory of the server in use');
}

/** Adds the options of `lifeboat bucket setup` that concern objects. */
export function addBucketOptions(command: Command): Command {
  return command
    .option('--infrequent-after <days>', 'move objects to STANDARD_IA after this many days', days)
    .option(
      '--keep-removed <days>',
      'keep removed objects for this many days (default: 30d, or the days of --lock if that is longer)',
      days,
    )
    .option('--archive-removed-after <days>', 'move removed objects to GLACIER after this many days', days)
    .option('--deep-archive', 'with --archive-removed-after: use DEEP_ARCHIVE')
    .option('--lock <days>', 'lock new objects for this many days (Object Lock)', days)
    .addOption(
      new Option(
        '--lock-mode <mode>',
        'governance: users with a special right can lift the lock; compliance: nobody can (default: governance)',
      ).choices(['governance', 'compliance']),
    );
}

/** Adds the options of `lifeboat drill`. */
export function addDrillOptions(command: Command): Command {
  return command
    .option('--snapshot <snapshot>', 'use this snapshot (default: the latest of each source)')
    .option(
      '--at <time>',
      'recover database servers to this time, with a time zone, to `10m ago`, or to `latest`',
      point,
    )
    .option('--timeline <number>', 'with --at: the time is on this timeline', timeline)
    .option('--stack', 'restore all sources at the same time, and run lifeboat.drill.health')
    .option('--by <name>', 'who asks for the drill, for the evidence')
    .option('--unsigned', 'with LIFEBOAT_SIGNING_KEY: accept a snapshot without a signature');
}

/** Adds the options of `lifeboat drills`. */
export function addDrillsOptions(command: Command): Command {
  return command
    .option('--since <days>', 'only drills of the last days, such as 90d', days)
    .addOption(
      new Option(
        '--format <format>',
        'md: a report in Markdown; csv: one line for each source; json: as --json',
      ).choices(['md', 'csv', 'json']),
    );
}

/** The options that name a point. */
const POINTS = ['at', 'lsn', 'xid', 'name'] as const;

/**
 * Returns the point that options name, or undefined if they name none.
 *
 * @throws USAGE for several points, and for an option that needs a point
 */
export function aimOf(options: Readonly<Record<string, unknown>>): Aim | undefined {
  const given = POINTS.filter((name) => options[name] !== undefined);
  const [name] = given;
  if (name === undefined) {
    const needing = { '--timeline': 'timeline', '--to-volume': 'toVolume', '--in-place': 'inPlace' };
    const alone = Object.entries(needing).find(([, option]) => options[option] !== undefined)?.[0];
    if (alone === undefined) return undefined;
    throw new LifeboatError('USAGE', `${alone} needs a point in time`, {
      hint: 'Add --at, --lsn, --xid or --name. To recover everything that is stored, use --at latest.',
    });
  }
  if (given.length > 1)
    throw new LifeboatError('USAGE', `use only one of ${given.map((one) => `--${one}`).join(', ')}`);
  const timeline = options.timeline === undefined ? {} : { timeline: options.timeline as number };
  if (name === 'at') return { target: options.at as PointInTime | 'latest', ...timeline };
  const value = options[name] as string;
  if (name === 'lsn') return { target: { lsn: value }, ...timeline };
  return { target: name === 'xid' ? { xid: value } : { name: value }, ...timeline };
}

/** Returns the options without those of a point. */
export function withoutAim(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const rest = { ...options };
  for (const name of [...POINTS, 'timeline']) delete rest[name];
  return rest;
}

/** Options with which a restore stops no service. */
const STOPS_NONE = ['toDatabase', 'toDirectory', 'table', 'as'];

/** Checks that a restore with `--live` stops services. @throws USAGE */
export function checkLive(options: Readonly<Record<string, unknown>>): void {
  if (options.live !== true) return;
  const given = STOPS_NONE.find((name) => options[name] !== undefined);
  const option = options.stop === false ? '--no-stop' : given && optionOf(given);
  if (option === undefined) return;
  throw new LifeboatError('USAGE', `--live cannot be combined with ${option}, which stops no service`, {
    hint: 'Leave one of them out: --live stops services only for the swap.',
  });
}

/** Checks that a restore into another project restores into its services. @throws USAGE */
export function checkInto(options: Readonly<Record<string, unknown>>): void {
  if (options.intoProject === undefined || options.toDirectory === undefined) return;
  throw new LifeboatError('USAGE', '--into-project cannot be combined with --to-directory', {
    hint: 'A directory belongs to no project: leave out --into-project.',
  });
}

/** Returns how a user writes an option. */
export function optionOf(name: string): string {
  return `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
}
