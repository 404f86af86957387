import { createHash } from 'node:crypto';
import path from 'node:path';
import { LifeboatError } from '../base/errors.ts';
import type { SweepingDestination } from '../destinations/destination.ts';
import { createLocalDestination } from '../destinations/local.ts';
import { S3Bucket } from '../destinations/s3/bucket.ts';
import type { S3Limits } from '../destinations/s3/retry.ts';
import { createS3Destination } from '../destinations/s3/s3.ts';
import type { Mount } from '../plan/model.ts';
import { mountHolding } from '../plan/mounts.ts';
import { isS3, parseS3Location, type S3Location, s3Place } from '../plan/s3-location.ts';
import type { Settings } from '../plan/settings.ts';
import { AWS_ENVIRONMENT } from '../plan/values/aws-environment.ts';
import { SPOOL } from '../run/mounts.ts';
import { type RenewalRule, renewalRule } from '../store/content/repack.ts';

/** Next to the state. Helpers write there too, and the sweep of the next run reads it. */
const UPLOADS = path.join(SPOOL, 'state', 's3-uploads');

/** Options of opening a place. */
export interface OpenOptions {
  env?: NodeJS.ProcessEnv;
  /** aborts when the process must end: requests to a server then end within seconds */
  hurry?: AbortSignal | undefined;
}

/** Opens the destination of the settings. */
export function openDestination(settings: Settings, options?: OpenOptions): SweepingDestination {
  return openElsewhere(settings.destination, settings, options);
}

/**
 * Opens any place. Only this function knows the kinds of destinations. A copy has the name that the settings give it:
 * reports and what Lifeboat remembers tell places apart by their names.
 */
export function openElsewhere(
  place: string,
  settings: Settings,
  { env = process.env, hurry }: OpenOptions = {},
): SweepingDestination {
  const copy = settings.copies.find(({ location }) => location === place);
  if (!isS3(place)) return named(createLocalDestination({ root: place }), copy?.name);
  const parsed = parseS3Location(place);
  if (!('value' in parsed)) throw new TypeError('a destination that was not checked');
  const given = { ...reach(settings, parsed.value), uploads: uploadsAt(parsed.value), env, hurry };
  return named(createS3Destination(given), copy?.name);
}

/** Returns a destination under another name. */
function named(destination: SweepingDestination, name = destination.name): SweepingDestination {
  return destination.name === name ? destination : Object.create(destination, { name: { value: name } });
}

/**
 * Returns the directory that records unfinished uploads to a place. Each place has its own, because each is swept
 * separately. It does not depend on how the place is reached.
 */
export function uploadsAt(location: S3Location): string {
  return `${UPLOADS}-${createHash('sha256').update(s3Place(location)).digest('hex').slice(0, 12)}`;
}

/** Returns what {@link Destination.place} says of a location that was checked, or its name. */
export function placeAt(location: string): string {
  const parsed = isS3(location) ? parseS3Location(location) : undefined;
  return parsed && 'value' in parsed ? s3Place(parsed.value) : location;
}

/** Opens the bucket of the settings, or another one. Throws USAGE for a directory. */
export function openBucket(
  settings: Settings,
  env: NodeJS.ProcessEnv,
  { destination = settings.destination, limits = {} }: { destination?: string | undefined; limits?: Partial<S3Limits> },
): S3Bucket {
  const parsed = isS3(destination) ? parseS3Location(destination) : { problem: 'is not in a bucket' };
  if ('value' in parsed) return new S3Bucket({ ...reach(settings, parsed.value), env, limits });
  const hint = 'Name one with --destination s3://bucket/prefix?…, or in LIFEBOAT_DESTINATION.';
  throw new LifeboatError('USAGE', `the destination ${parsed.problem}`, { hint });
}

function reach({ awsKey, awsRegion, customerKey }: Settings, { region, ...location }: S3Location) {
  // The region of the settings is that of their key; a profile has its own.
  const inRegion = region ?? (location.profile === undefined ? awsRegion : undefined);
  return {
    location: { ...location, ...(inRegion === undefined ? {} : { region: inRegion }) },
    ...(awsKey ? { credentials: awsKey } : {}),
    ...(customerKey === undefined ? {} : { customerKey }),
  };
}

/** The settings with which a helper opens the same destination. */
export interface HelperSettings {
  /** public: part of the helper's environment */
  open: Record<string, string>;
  /** secret: sent to the helper's stdin */
  secret: Record<string, string>;
  place: HelperPlace;
}

/** The files of the agent that a destination needs. */
export type HelperPlace =
  | { directory: string }
  /** `uploads`: directory that records unfinished uploads; `files`: those that may hold credentials and certificates */
  | { uploads: string; files: string[] };

/** Returns when backups store the content of packs again. */
export function renewalRuleOf({ destination, maxUnused }: Settings, unused = maxUnused): RenewalRule {
  const parsed = isS3(destination) ? parseS3Location(destination) : undefined;
  return renewalRule(unused, parsed && 'value' in parsed ? parsed.value.storageClass : undefined);
}

/** See {@link HelperSettings}. */
export function helperSettings(settings: Settings, env: NodeJS.ProcessEnv = process.env): HelperSettings {
  const keys = keySettings(settings);
  const open = { LIFEBOAT_DESTINATION: settings.destination, LOG_LEVEL: 'silent' };
  const parsed = isS3(settings.destination) ? parseS3Location(settings.destination) : undefined;
  if (!parsed || !('value' in parsed)) return { open, secret: keys, place: { directory: settings.destination } };
  const { awsKey, awsRegion, customerKey } = settings;
  const given = AWS_ENVIRONMENT.flatMap((name) => (env[name] ? [[name, env[name]] as const] : []));
  const certificates = env.NODE_EXTRA_CA_CERTS;
  const files = given.flatMap(([name, value]) => (name.endsWith('_FILE') ? [value] : []));
  const home = path.join(env.HOME ?? '/root', '.aws');
  return {
    open: { ...open, ...(certificates ? { NODE_EXTRA_CA_CERTS: certificates } : {}) },
    secret: {
      ...keys,
      ...Object.fromEntries(given),
      ...(awsRegion ? { AWS_REGION: awsRegion } : {}),
      ...(awsKey ? { AWS_ACCESS_KEY_ID: awsKey.accessKeyId, AWS_SECRET_ACCESS_KEY: awsKey.secretAccessKey } : {}),
      ...(awsKey?.sessionToken ? { AWS_SESSION_TOKEN: awsKey.sessionToken } : {}),
      ...(customerKey ? { LIFEBOAT_S3_CUSTOMER_KEY: customerKey } : {}),
    },
    place: { uploads: uploadsAt(parsed.value), files: [...files, home, ...(certificates ? [certificates] : [])] },
  };
}

/**
 * The keys, as settings. They are never part of a container's environment. Public keys would also be too long for it.
 */
function keySettings({ keys }: Settings): Record<string, string> {
  const given = {
    LIFEBOAT_AGE_RECIPIENTS: keys.ageRecipients?.join(),
    LIFEBOAT_AGE_IDENTITY: keys.ageIdentity,
    LIFEBOAT_GPG_PASSPHRASE: keys.gpgPassphrase,
    LIFEBOAT_GPG_RECIPIENTS: keys.gpgRecipients,
    LIFEBOAT_GPG_PRIVATE_KEY: keys.gpgPrivateKey,
  };
  return Object.fromEntries(
    Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}

/**
 * Returns why a destination cannot be used, judged by the mounts of the agent, or undefined.
 *
 * @param writing false if it is only read
 */
export function destinationError(path: string, mounts: readonly Mount[], writing: boolean): LifeboatError | undefined {
  if (isS3(path)) return undefined;
  const mount = mountHolding(path, mounts);
  if (!mount || mount.type === 'tmpfs') {
    const where = mount ? 'is in memory' : "is on the Lifeboat container's own disk";
    return new LifeboatError('DEST_NOT_MOUNTED', `${path} ${where}, which would be lost with the container`, {
      hint: `Mount a volume or a directory of the host at ${path} of the Lifeboat service.`,
    });
  }
  if (mount.writable || !writing) return undefined;
  return new LifeboatError('DEST_UNWRITABLE', `${path} is mounted read-only`, {
    hint: `Remove :ro from the mount at ${mount.destination} of the Lifeboat service.`,
  });
}
