import { LOG_FORMATS, type LogLevel } from '../base/log.ts';
import { parseCopies, parseDestination } from './location.ts';
import { MESSAGE_SETTINGS } from './messages/message-settings.ts';
import { pgCredentials } from './pg-credentials.ts';
import { parseKeep } from './retention.ts';
import { DRILL_SETTINGS } from './values/drill-settings.ts';
import type { Fields, Parsed } from './values/fields.ts';
import { HTTP_SETTINGS } from './values/http-settings.ts';
import { ageIdentity, ageRecipients, armored, passphrase } from './values/key-values.ts';
import { parseSchedule } from './values/schedule.ts';
import { boolean, duration, list, matching, oneOf, percent, secretLines, text } from './values/values.ts';
import { parseZone } from './values/zone.ts';

/** Compose's own rule for project names. */
const PROJECT_NAME = /^[a-z0-9][a-z0-9_-]*$/;
const PROJECT_FORM = 'write the Compose project as docker compose ls shows it: lower-case letters, digits, - and _';

/** The Compose projects whose labelled containers count. */
export type Scope = { kind: 'project' } | { kind: 'all' } | { kind: 'projects'; names: readonly string[] };

function parseScope(value: string): Parsed<Scope> {
  const word = value.trim().toLowerCase();
  if (word === 'project' || word === 'all') return { value: { kind: word } };
  const names = list((name) =>
    PROJECT_NAME.test(name) ? undefined : { problem: 'has a name that no Compose project can have' },
  )(value);
  return 'problem' in names ? { hint: PROJECT_FORM, ...names } : { value: { kind: 'projects', names: names.value } };
}

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const satisfies readonly LogLevel[];

/** Every setting. docs/settings.md is generated from this table. Each setting also has a NAME_FILE form. */
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
    doc: 'which snapshots to keep, as a [keep policy](#keep-policy). Lifeboat never removes a snapshot that is less than a day old',
    default: '7d 4w 12m',
  },
  LIFEBOAT_FALL: {
    parse: percent,
    form: 'percentage',
    doc: 'how far the size, row count or file count of a source may drop between its last good snapshot and the new one. After a larger drop, Lifeboat warns. It keeps the snapshot from before the drop until you run `lifeboat accept SOURCE`. `100%` turns the warning off',
    default: '50%',
  },
  LIFEBOAT_MAX_UNUSED: {
    parse: percent,
    form: 'percentage',
    doc: 'how much of the packs of a source may be content that no snapshot needs. Above it, backups [store the rest of such packs again](format.md#packs-that-are-partly-unused), so that prune can delete them. `100%` turns this off',
    default: '5%',
  },
  LIFEBOAT_DESTINATION: {
    parse: parseDestination,
    form: 'absolute path, or `s3://bucket/prefix?…`',
    doc: 'where Lifeboat stores backups: a mount of the Lifeboat container, or [an S3 bucket](s3.md). Options [tell Lifeboat what the storage costs](monitoring.md#size-and-cost)',
    default: '/backups',
  },
  LIFEBOAT_COPY: {
    parse: parseCopies,
    form: 'locations, separated by spaces or commas',
    doc: '[further locations](copies.md) for the same backups, each written like `LIFEBOAT_DESTINATION`. `?keep=90d+12m` gives a location its own retention',
  },
  AWS_ACCESS_KEY_ID: {
    parse: text,
    form: 'text',
    doc: 'the S3 access key. If it is not set, the AWS SDK looks in its [usual places](s3.md#keys)',
    secret: true,
    needs: ['AWS_SECRET_ACCESS_KEY'],
  },
  AWS_SECRET_ACCESS_KEY: {
    parse: text,
    form: 'text',
    doc: 'the secret part of the S3 access key',
    secret: true,
    needs: ['AWS_ACCESS_KEY_ID'],
  },
  AWS_SESSION_TOKEN: {
    parse: text,
    form: 'text',
    doc: 'the session token of a temporary S3 access key',
    secret: true,
    needs: ['AWS_SECRET_ACCESS_KEY'],
  },
  AWS_REGION: {
    parse: matching(/^[a-z0-9-]{1,50}$/, 'write it as eu-central-1'),
    form: 'name',
    doc: 'the S3 region of locations that do not name a region',
  },
  LIFEBOAT_S3_CUSTOMER_KEY: {
    parse: matching(
      /^[A-Za-z0-9+/]{43}=$/,
      'write 32 random bytes in base64, as `openssl rand -base64 32` prints them',
    ),
    form: '32 bytes in base64',
    doc: 'the key with which an S3 server encrypts objects, for locations with [`sse=customer`](s3.md#options). The server does not store the key. If you lose it, nobody can read the objects',
    secret: true,
  },
  LIFEBOAT_SCOPE: {
    parse: parseScope,
    form: '`project`, `all`, or a comma list',
    doc: 'which containers Lifeboat considers. `project`: the containers of its own Compose project. `all`: all containers on this Docker engine, except [copies](staging.md) that restores filled. A list: the containers of the listed projects',
    default: 'project',
  },
  LIFEBOAT_PROJECT: {
    parse: matching(PROJECT_NAME, PROJECT_FORM),
    form: 'name',
    doc: "name of Lifeboat's own project. Set it if you start Lifeboat without Compose, because Lifeboat then cannot find the name; and in a Swarm, where each node needs a project of its own",
  },
  ...MESSAGE_SETTINGS,
  LIFEBOAT_UNATTENDED_RESTORE: {
    parse: boolean,
    form: '`yes` or `no`',
    doc: '`no`: a restore, rollback or other command that replaces or drops data needs a terminal. Without one, Lifeboat refuses it even with `--yes`',
    default: 'yes',
  },
  LIFEBOAT_STALL_TIMEOUT: {
    parse: duration({ min: '10s', max: '7d' }),
    form: 'duration',
    doc: 'how long a dump, a restore, or the reading of a volume may make no progress. After this time, Lifeboat ends it with an error',
    default: '15m',
  },
  LIFEBOAT_PGUSER: {
    parse: text,
    form: 'name',
    doc: 'database role for all servers, instead of the user in the environment of the database container',
  },
  LIFEBOAT_PGPASSWORD: {
    parse: text,
    form: 'text',
    doc: 'password of `LIFEBOAT_PGUSER`, instead of the password in the environment of the database container',
    secret: true,
  },
  LIFEBOAT_PGCREDENTIALS: {
    parse: pgCredentials,
    form: 'lines `source:role:password`',
    doc: 'role and password for single sources, one line for each source. A line takes precedence over [all other places](#credentials-of-databases). [Example](#an-example-of-lifeboat_pgcredentials)',
    secret: true,
  },
  LIFEBOAT_AGE_RECIPIENTS: {
    parse: ageRecipients,
    form: 'comma list, or lines',
    doc: '[age](security.md#encryption) public keys, `age1…`. Lifeboat encrypts all new backups with all of these keys. To decrypt a backup, the private key of one of them is enough',
  },
  LIFEBOAT_AGE_IDENTITY: {
    parse: ageIdentity,
    form: 'lines',
    doc: 'age private keys (*identities*), as `age-keygen` writes them. Lifeboat needs them only to read backups, for example in a restore',
    secret: true,
  },
  LIFEBOAT_GPG_PASSPHRASE: {
    parse: passphrase,
    form: 'text',
    doc: 'passphrase that encrypts all new backups with OpenPGP (AES-256), and decrypts them. If `LIFEBOAT_GPG_RECIPIENTS` is set, this is the passphrase of the private key instead',
    secret: true,
  },
  LIFEBOAT_GPG_RECIPIENTS: {
    parse: armored('PUBLIC', '`gpg --armor --export KEY…`'),
    form: 'armored keys',
    doc: 'OpenPGP public keys, as `gpg --armor --export KEY…` prints them. Lifeboat encrypts all new backups with all of these keys',
  },
  LIFEBOAT_GPG_PRIVATE_KEY: {
    parse: armored('PRIVATE', '`gpg --armor --export-secret-keys KEY`'),
    form: 'armored keys',
    doc: 'OpenPGP private keys, as `gpg --armor --export-secret-keys KEY` prints them. Lifeboat needs them only to read backups, for example in a restore',
    secret: true,
  },
  LIFEBOAT_ENCRYPTION: {
    parse: oneOf(['none']),
    form: '`none`',
    doc: '`none`: store new backups unencrypted, even if earlier backups are encrypted. By default, a run fails if earlier backups are encrypted and no encryption key is set',
  },
  LIFEBOAT_SIGNING_KEY: {
    parse: secretLines(16),
    form: 'text, or several texts, one per line',
    doc: '[key that signs snapshots](security.md#signed-snapshots), of 16 characters or more. If you set several keys, Lifeboat signs with the first key, and accepts signatures of all of them',
    secret: true,
  },
  LIFEBOAT_RPO: {
    parse: duration({ min: '1s', max: '3650d' }),
    form: 'duration',
    doc: '[target](targets.md) for lost work: how much of the newest work the loss of the host may cost. `lifeboat status` and alarms say which sources do not meet it. Up to an hour, databases with `lifeboat.postgres.pitr` store their write-ahead log twice in this time, otherwise every 10 seconds',
  },
  LIFEBOAT_RTO: {
    parse: duration({ min: '1s', max: '365d' }),
    form: 'duration',
    doc: '[target](targets.md) for recovery: how long a restore may take. `lifeboat status` and alarms say for which sources the last measured restore took longer',
  },
  LIFEBOAT_BASE_SCHEDULE: {
    parse: parseSchedule,
    form: 'schedule',
    doc: 'when to make base backups of databases with `lifeboat.postgres.pitr`. Lifeboat also makes one at the beginning, after each gap in the write-ahead log, and after a recovery in place to before the newest one',
    default: '30 4 * * 0',
  },
  ...DRILL_SETTINGS,
  ...HTTP_SETTINGS,
  LOG_LEVEL: {
    parse: oneOf(LEVELS),
    form: LEVELS.map((level) => `\`${level}\``).join(', '),
    doc: 'how much Lifeboat logs. If it is not set, commands other than `daemon` log only warnings and errors',
    default: 'info',
  },
  LOG_FORMAT: {
    parse: oneOf(LOG_FORMATS),
    form: LOG_FORMATS.map((format) => `\`${format}\``).join(', '),
    doc: 'how Lifeboat logs. `json`: one JSON object per line. `text`: one line of text with the same fields. If it is not set, `text` at a terminal and `json` elsewhere. Commands other than `daemon` ignore this setting at a terminal and log plain text, unless the level is `debug` or `trace`',
  },
  TZ: { parse: parseZone, form: 'time zone', doc: 'IANA time zone of schedules and displayed times', default: 'UTC' },
} as const satisfies Fields;
