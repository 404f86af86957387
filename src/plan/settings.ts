import { LifeboatError } from '../base/errors.ts';
import type { LogFormat, LogLevel } from '../base/log.ts';
import { type CopyLocation, lackingCustomerKey, misplaced, withOwnNames } from './location.ts';
import { type MessageSettings, messageMistakes, toMessageSettings } from './messages/message-settings.ts';
import type { KeepPolicy } from './model.ts';
import type { SourceCredentials } from './pg-credentials.ts';
import { encryptionOf, type SealKeys } from './seal-keys.ts';
import { type Scope, SETTINGS } from './setting-table.ts';
import { type DrillSettings, toDrillSettings } from './values/drill-settings.ts';
import { type Mistake, mistake, readFields, unknownKey, type Values } from './values/fields.ts';
import { type HttpSettings, httpOf } from './values/http-settings.ts';
import type { PlaceLimits } from './values/place-limits.ts';
import { hasLikePrefix, suggest } from './values/suggest.ts';

/** The settings of the operator, validated and typed. */
export interface Settings {
  /** five-field cron expression or @alias, valid */
  readonly schedule: string;
  readonly keep: KeepPolicy;
  /** 0 to 1: a larger drop since the last good run is reported */
  readonly fall: number;
  /** 0 to 1: unused content of packs above this share is freed */
  readonly maxUnused: number;
  /** absolute path without a trailing slash, or `s3://…` as written */
  readonly destination: string;
  /** the price of the destination, and from when on its size is reported */
  readonly destinationLimits?: PlaceLimits;
  /** further places for the same repository, in the order of the setting */
  readonly copies: readonly CopyLocation[];
  /** the S3 key; absent: the AWS SDK looks for one */
  readonly awsKey?: { accessKeyId: string; secretAccessKey: string; sessionToken?: string };
  readonly awsRegion?: string;
  /** base64 of the key of objects that the server encrypts with a customer key (SSE-C) */
  readonly customerKey?: string;
  /** empty: backups are not encrypted */
  readonly keys: SealKeys;
  /** the first signs, all verify; absent: nothing is signed or verified */
  readonly signingKeys?: readonly string[];
  readonly scope: Scope;
  /** name to use if the agent's own Compose project is unknown */
  readonly project?: string;
  readonly messages: MessageSettings;
  /** false: data is replaced or dropped only at a terminal */
  readonly unattendedRestore: boolean;
  readonly stallTimeoutMs: number;
  /** targets of sources without their own: for lost work, and for the duration of a restore; milliseconds */
  readonly rpoMs?: number;
  readonly rtoMs?: number;
  /** for recovery to a point in time: when to make base backups */
  readonly baseSchedule: string;
  readonly drill: DrillSettings;
  readonly pgUser?: string;
  readonly pgPassword?: string;
  /** at most one for each source */
  readonly pgCredentials: readonly SourceCredentials[];
  /** absent: nothing is served */
  readonly http?: HttpSettings;
  readonly logLevel: LogLevel;
  /** absent: `text` at a terminal, `json` elsewhere */
  readonly logFormat?: LogFormat;
  /** IANA name */
  readonly timeZone: string;
}

const names = Object.keys(SETTINGS);

function isOurs(name: string): boolean {
  return /^LIFEBOAT_/i.test(name) || (hasLikePrefix(name) && suggest(name.replace(/_FILE$/i, ''), names) !== undefined);
}

/** Returns the row of a variable, and whether the variable names a file that holds the value. */
function rowOfVariable(name: string): { row: string; file: boolean } | undefined {
  if (Object.hasOwn(SETTINGS, name)) return { row: name, file: false };
  const row = name.replace(/_FILE$/, '');
  return row !== name && Object.hasOwn(SETTINGS, row) ? { row, file: true } : undefined;
}

/** Returns the mistake of an unknown variable, with a suggestion. `LIFEBOAT_PGPASWORD_FILE` is a misspelt file form. */
function unknownVariable(name: string): Mistake {
  const stem = name.replace(/_FILE$/i, '');
  const found = unknownKey('setting', SETTINGS, stem);
  const hint = stem === name ? found.hint : found.hint?.replace(/\?$/, '_FILE?');
  return mistake(name, 'unknown', `unknown setting ${name.slice(0, 80)}`, hint);
}

/**
 * Collects the text of each setting. Empty variables count as not set, because Compose passes `${NAME:-}` as an empty
 * one.
 */
function gather(
  env: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => string,
): { given: Map<string, string>; mistakes: Mistake[] } {
  const given = new Map<string, string>();
  const mistakes: Mistake[] = [];
  for (const [name, text] of Object.entries(env)) {
    const found = rowOfVariable(name);
    if (found === undefined) {
      if (isOurs(name)) mistakes.push(unknownVariable(name));
      continue;
    }
    if (text === undefined || text.trim() === '') continue;
    const { row, file } = found;
    if (file && env[row] !== undefined && env[row].trim() !== '') {
      mistakes.push(mistake(name, 'invalid', `${row} and ${name} are both set`, 'remove one of them'));
      continue;
    }
    const content = file ? readValue(name, text, readFile) : text;
    if (typeof content === 'string') given.set(row, content);
    else mistakes.push(content);
  }
  return { given, mistakes };
}

/**
 * Reads the file of a setting. Messages do not contain the path: it may be a secret that was set as NAME_FILE by
 * mistake.
 */
function readValue(name: string, path: string, readFile: (path: string) => string): string | Mistake {
  let content: string;
  try {
    content = readFile(path).trimEnd();
  } catch (error) {
    const why = error instanceof Error && 'code' in error ? ` (${String(error.code)})` : '';
    const hint = 'mount the file into the container, readable for its user, and name it by its path there';
    return mistake(name, 'invalid', `the file that ${name} names cannot be read${why}`, hint);
  }
  if (content !== '') return content;
  return mistake(name, 'invalid', `the file that ${name} names is empty`, 'fill it, or remove the setting');
}

/**
 * Parses the settings from environment variables and from the files that NAME_FILE variables name.
 *
 * @param readFile returns the text of a file, or throws
 * @throws SETTING_UNKNOWN if all mistakes are unknown names, otherwise SETTING_INVALID. The message lists all mistakes,
 *   and contains no value of a secret or of an unknown name
 */
export function parseSettings(
  env: Readonly<Record<string, string | undefined>>,
  readFile: (path: string) => string,
): Settings {
  const { given, mistakes } = gather(env, readFile);
  const read = readFields('setting', SETTINGS, given);
  mistakes.push(...read.mistakes);
  mistakes.push(...messageMistakes(given, read.values));
  const second = ['LIFEBOAT_GPG_RECIPIENTS', 'LIFEBOAT_GPG_PASSPHRASE'].find((name) => given.has(name));
  if (given.has('LIFEBOAT_AGE_RECIPIENTS') && second !== undefined) {
    const message = `LIFEBOAT_AGE_RECIPIENTS and ${second} are both set`;
    const hint =
      'encrypt with one of them; LIFEBOAT_AGE_IDENTITY and LIFEBOAT_GPG_PRIVATE_KEY may stay, for older backups';
    mistakes.push(mistake('LIFEBOAT_AGE_RECIPIENTS', 'invalid', message, hint));
  }
  if (read.values.LIFEBOAT_ENCRYPTION === 'none' && encryptionOf(keysOf(read.values)) !== undefined) {
    const message = 'LIFEBOAT_ENCRYPTION is none, but a key to encrypt with is set';
    mistakes.push(mistake('LIFEBOAT_ENCRYPTION', 'invalid', message, 'remove one of them'));
  }
  const { LIFEBOAT_DESTINATION: destination, LIFEBOAT_COPY: copies, AWS_REGION: region } = read.values;
  mistakes.push(...misplaced(destination.location, copies ?? [], region));
  if (!given.has('LIFEBOAT_S3_CUSTOMER_KEY')) mistakes.push(...lackingCustomerKey(destination.location, copies ?? []));
  if (mistakes.length > 0) throw refusal(mistakes);
  return toSettings(read.values);
}

function refusal(mistakes: Mistake[]): LifeboatError {
  const code = mistakes.every(({ kind }) => kind === 'unknown') ? 'SETTING_UNKNOWN' : 'SETTING_INVALID';
  const [first] = mistakes;
  if (mistakes.length === 1) {
    return new LifeboatError(code, first!.message, first!.hint === undefined ? {} : { hint: first!.hint });
  }
  const order = (key: string) => names.indexOf(key.replace(/_FILE$/, ''));
  const sorted = mistakes.toSorted((a, b) => order(a.key) - order(b.key) || (a.key < b.key ? -1 : 1));
  const lines = sorted.map(({ message, hint }) => `\n  ${message}${hint === undefined ? '' : ` (${hint})`}`);
  return new LifeboatError(code, `${mistakes.length} settings cannot be used:${lines.join('')}`);
}

function toSettings(values: Values<typeof SETTINGS>): Settings {
  return withoutUndefined({
    schedule: values.LIFEBOAT_SCHEDULE,
    keep: values.LIFEBOAT_KEEP,
    fall: values.LIFEBOAT_FALL,
    maxUnused: values.LIFEBOAT_MAX_UNUSED,
    destination: values.LIFEBOAT_DESTINATION.location,
    destinationLimits: values.LIFEBOAT_DESTINATION.limits,
    copies: withOwnNames(values.LIFEBOAT_COPY ?? [], values.LIFEBOAT_DESTINATION.location),
    awsKey: awsKeyOf(values),
    awsRegion: values.AWS_REGION,
    customerKey: values.LIFEBOAT_S3_CUSTOMER_KEY,
    keys: keysOf(values),
    signingKeys: values.LIFEBOAT_SIGNING_KEY,
    scope: values.LIFEBOAT_SCOPE,
    project: values.LIFEBOAT_PROJECT,
    messages: toMessageSettings(values),
    unattendedRestore: values.LIFEBOAT_UNATTENDED_RESTORE,
    stallTimeoutMs: values.LIFEBOAT_STALL_TIMEOUT,
    rpoMs: values.LIFEBOAT_RPO,
    rtoMs: values.LIFEBOAT_RTO,
    baseSchedule: values.LIFEBOAT_BASE_SCHEDULE,
    drill: toDrillSettings(values),
    pgUser: values.LIFEBOAT_PGUSER,
    pgPassword: values.LIFEBOAT_PGPASSWORD,
    pgCredentials: values.LIFEBOAT_PGCREDENTIALS ?? [],
    http: httpOf(values),
    logLevel: values.LOG_LEVEL,
    logFormat: values.LOG_FORMAT,
    timeZone: values.TZ,
  });
}

function awsKeyOf(values: Values<typeof SETTINGS>): Settings['awsKey'] {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: token } = values;
  if (accessKeyId === undefined || secretAccessKey === undefined) return undefined;
  return { accessKeyId, secretAccessKey, ...(token === undefined ? {} : { sessionToken: token }) };
}

function keysOf(values: Values<typeof SETTINGS>): SealKeys {
  return withoutUndefined({
    ageRecipients: values.LIFEBOAT_AGE_RECIPIENTS,
    ageIdentity: values.LIFEBOAT_AGE_IDENTITY,
    gpgPassphrase: values.LIFEBOAT_GPG_PASSPHRASE,
    gpgRecipients: values.LIFEBOAT_GPG_RECIPIENTS,
    gpgPrivateKey: values.LIFEBOAT_GPG_PRIVATE_KEY,
    inTheClear: values.LIFEBOAT_ENCRYPTION === 'none' ? true : undefined,
  });
}

type Defined<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

function withoutUndefined<T extends object>(object: T): Defined<T> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as Defined<T>;
}
