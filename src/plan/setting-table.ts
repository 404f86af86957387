import type { LogLevel } from '../log.ts';
import type { Fields, Parsed } from './fields.ts';
import { ageIdentity, ageRecipients, armored, passphrase } from './key-values.ts';
import { parseCopies, parseLocation } from './location.ts';
import { pgCredentials } from './pg-credentials.ts';
import { parseKeep } from './retention.ts';
import { parseSchedule } from './schedule.ts';
import { duration, integer, list, matching, oneOf, percent, secretLines, text, url } from './values.ts';
import { parseZone } from './zone.ts';

/** Compose's own rule for project names. */
const PROJECT_NAME = /^[a-z0-9][a-z0-9_-]*$/;
const PROJECT_FORM = 'write the Compose project as docker compose ls shows it: lower-case letters, digits, - and _';

/** Which Compose projects are searched for labelled containers. */
export type Scope = { kind: 'project' } | { kind: 'all' } | { kind: 'projects'; names: readonly string[] };

function parseScope(value: string): Parsed<Scope> {
  const word = value.trim().toLowerCase();
  if (word === 'project' || word === 'all') return { value: { kind: word } };
  const names = list((name) => (PROJECT_NAME.test(name) ? undefined : 'has a name that no Compose project can have'))(
    value,
  );
  return 'problem' in names ? { hint: PROJECT_FORM, ...names } : { value: { kind: 'projects', names: names.value } };
}

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const satisfies readonly LogLevel[];

/** A row for a setting that a later version reads. Not ignored: an operator who sets a key must not get clear text. */
const planned = (form: string, doc: string) => ({ parse: text, form, doc, planned: true }) as const;

/** Every setting. docs/settings.md is made from this table; each can also be given as NAME_FILE. */
export const SETTINGS = {
  LIFEBOAT_SCHEDULE: {
    parse: parseSchedule,
    form: 'schedule',
    doc: 'when to back up',
    default: '0 3 * * *',
  },
  LIFEBOAT_KEEP: {
    parse: parseKeep,
    form: 'keep policy',
    doc: 'how much to keep: the newest snapshot of each of so many days, weeks, months and years (`7d 4w 12m 3y`) that have one, the newest (`last 5`), those from the last hours before the newest (`within 48h`). Nothing goes within a day of its making',
    default: '7d 4w 12m',
  },
  LIFEBOAT_FALL: {
    parse: percent,
    form: 'percentage',
    doc: 'by how much the size or the rows of a source may fall from one run to the next. Beyond it the run is told with a warning, and the snapshot from before is kept until `lifeboat accept SOURCE`. `100%`: never told',
    default: '50%',
  },
  LIFEBOAT_DESTINATION: {
    parse: parseLocation,
    form: 'absolute path, or `s3://bucket/prefix?…`',
    doc: 'where backups are stored: a mount of the Lifeboat container, or [an S3 bucket](s3.md)',
    default: '/backups',
  },
  LIFEBOAT_COPY: {
    parse: parseCopies,
    form: 'locations, with spaces or commas between them',
    doc: '[further places](copies.md) for the same backups, each like `LIFEBOAT_DESTINATION`, and with `?keep=90d+12m` kept for a time of its own',
  },
  AWS_ACCESS_KEY_ID: {
    parse: text,
    form: 'text',
    doc: 'the key for S3. Without one, the files, roles and services are asked that the AWS SDK knows',
    secret: true,
    needs: ['AWS_SECRET_ACCESS_KEY'],
  },
  AWS_SECRET_ACCESS_KEY: {
    parse: text,
    form: 'text',
    doc: 'its secret part',
    secret: true,
    needs: ['AWS_ACCESS_KEY_ID'],
  },
  AWS_SESSION_TOKEN: {
    parse: text,
    form: 'text',
    doc: 'goes with a key that is lent for a time',
    secret: true,
    needs: ['AWS_SECRET_ACCESS_KEY'],
  },
  AWS_REGION: {
    parse: matching(/^[a-z0-9-]{1,50}$/, 'write it as eu-central-1'),
    form: 'name',
    doc: 'the region, where the destination names none',
  },
  LIFEBOAT_SCOPE: {
    parse: parseScope,
    form: '`project`, `all`, or a comma list',
    doc: 'which containers are looked at: those of the own Compose project, all on this engine, or those of the listed projects (nothing but the listed ones)',
    default: 'project',
  },
  LIFEBOAT_PROJECT: {
    parse: matching(PROJECT_NAME, PROJECT_FORM),
    form: 'name',
    doc: 'the project name to use when Lifeboat cannot tell its own, because Compose did not start it',
  },
  LIFEBOAT_HEALTHCHECKS_URL: {
    parse: url({ path: true }),
    form: 'URL',
    doc: 'ping address of a healthchecks.io check, such as `https://hc-ping.com/<uuid>`; self-hosted ones too',
    secret: true,
  },
  LIFEBOAT_HEALTHCHECKS_PING_KEY: {
    parse: matching(/^[A-Za-z0-9_-]{4,128}$/, 'write the ping key as the project settings of healthchecks.io show it'),
    form: 'key',
    doc: 'ping key of a healthchecks.io project: the check is found by its slug, and made if there is none. Instead of `LIFEBOAT_HEALTHCHECKS_URL`',
    secret: true,
  },
  LIFEBOAT_HEALTHCHECKS_SLUG: {
    parse: matching(/^[a-z0-9_-]{1,128}$/, 'write lower-case letters, digits, - and _'),
    form: 'slug',
    doc: 'slug of the check, `<project>-backup` if not given',
    needs: ['LIFEBOAT_HEALTHCHECKS_PING_KEY'],
  },
  LIFEBOAT_HEALTHCHECKS_BASE: {
    parse: url({ path: false }),
    form: 'URL',
    doc: 'base of the slug addresses, for a self-hosted instance',
    default: 'https://hc-ping.com',
    needs: ['LIFEBOAT_HEALTHCHECKS_PING_KEY'],
  },
  LIFEBOAT_SLACK_WEBHOOK_URL: {
    parse: url({ path: true }),
    form: 'URL',
    doc: 'Slack incoming webhook that is told of runs',
    secret: true,
  },
  LIFEBOAT_WEBHOOK_URL: {
    parse: url({ path: false }),
    form: 'URL',
    doc: 'address that each report is posted to, as JSON',
    secret: true,
  },
  LIFEBOAT_NOTIFY: {
    parse: oneOf(['always', 'failure', 'change']),
    form: '`always`, `failure` or `change`',
    doc: 'which runs Slack and the webhook hear of: all, those that did not end well, or those that ended otherwise than the one before. healthchecks.io hears of all',
    default: 'always',
  },
  LIFEBOAT_STALL_TIMEOUT: {
    parse: duration({ min: '10s', max: '7d' }),
    form: 'duration',
    doc: 'how long a dump or a volume may make no progress before the run counts as failed',
    default: '15m',
  },
  LIFEBOAT_PGUSER: {
    parse: text,
    form: 'name',
    doc: 'database role to use for all sources, instead of the user that the environment of the database container names',
  },
  LIFEBOAT_PGPASSWORD: {
    parse: text,
    form: 'text',
    doc: 'its password, instead of the one in the environment of the database container',
    secret: true,
  },
  LIFEBOAT_PGCREDENTIALS: {
    parse: pgCredentials,
    form: 'lines `source:role:password`',
    doc: 'role and password of single sources, such as `db.postgres:backup:s3cret`, before all other places that name them. An empty role or password is taken from there; write `\\:` and `\\\\` for a colon and a backslash',
    secret: true,
  },
  LIFEBOAT_AGE_RECIPIENTS: {
    parse: ageRecipients,
    form: 'comma list, or lines',
    doc: '[age](security.md#encryption) public keys, `age1…`: everything new is encrypted to all of them, and each can open it',
  },
  LIFEBOAT_AGE_IDENTITY: {
    parse: ageIdentity,
    form: 'lines',
    doc: 'age private keys, as `age-keygen` writes them: to restore. Backups do without',
    secret: true,
  },
  LIFEBOAT_GPG_PASSPHRASE: {
    parse: passphrase,
    form: 'text',
    doc: 'encrypts everything new with OpenPGP (AES-256) and opens it again; with `LIFEBOAT_GPG_RECIPIENTS` the passphrase of the private key',
    secret: true,
  },
  LIFEBOAT_GPG_RECIPIENTS: {
    parse: armored('PUBLIC', '`gpg --armor --export KEY…`'),
    form: 'armored keys',
    doc: 'OpenPGP public keys, as `gpg --armor --export KEY…` prints them: everything new is encrypted to all of them',
  },
  LIFEBOAT_GPG_PRIVATE_KEY: {
    parse: armored('PRIVATE', '`gpg --armor --export-secret-keys KEY`'),
    form: 'armored keys',
    doc: 'OpenPGP private keys, as `gpg --armor --export-secret-keys KEY` prints them: to restore. Backups do without',
    secret: true,
  },
  LIFEBOAT_ENCRYPTION: {
    parse: oneOf(['none']),
    form: '`none`',
    doc: 'says that backups go on in the clear although earlier ones are encrypted: without that word a key that got lost from the settings ends the run',
  },
  LIFEBOAT_SIGNING_KEY: {
    parse: secretLines(16),
    form: 'text, or several on lines of their own',
    doc: '[key that snapshots are signed with](security.md#signed-snapshots), of 16 characters or more. Of several the first signs, and all verify',
    secret: true,
  },
  LIFEBOAT_RPO: planned('duration', 'how old the newest backup may get before an alarm'),
  LIFEBOAT_RTO: planned('duration', 'how long a restore may take in a drill before an alarm'),
  LIFEBOAT_DRILL_SCHEDULE: planned('schedule', 'when to prove that a backup restores'),
  LIFEBOAT_HTTP_PORT: { ...planned('port', 'metrics and status page'), parse: integer(1, 65_535) },
  LOG_LEVEL: {
    parse: oneOf(LEVELS),
    form: LEVELS.map((level) => `\`${level}\``).join(', '),
    doc: 'how much is logged. Without it commands log warnings only; what they log at a terminal is text, else JSON',
    default: 'info',
  },
  TZ: { parse: parseZone, form: 'time zone', doc: 'IANA time zone of schedules and of times shown', default: 'UTC' },
} as const satisfies Fields;
