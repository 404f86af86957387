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
import { isS3, parseS3Location, type S3Location } from '../plan/s3-location.ts';
import { AWS_ENVIRONMENT, type Settings } from '../plan/settings.ts';
import { SPOOL } from '../run/mounts.ts';

/** Beside the state: helpers write there too, and the sweep of the next run reads it. */
const UPLOADS = path.join(SPOOL, 'state', 's3-uploads');

/** How a place is opened. */
export interface OpenOptions {
  env?: NodeJS.ProcessEnv;
  /** when the process is to end: what is under way at a server is ended within seconds */
  hurry?: AbortSignal | undefined;
}

/** The destination that the settings name. */
export function openDestination(settings: Settings, options?: OpenOptions): SweepingDestination {
  return openElsewhere(settings.destination, settings, options);
}

/** The destination, or another place. The only one that knows which kinds there are. */
export function openElsewhere(
  place: string,
  settings: Settings,
  { env = process.env, hurry }: OpenOptions = {},
): SweepingDestination {
  if (!isS3(place)) return createLocalDestination({ root: place });
  const parsed = parseS3Location(place);
  if (!('value' in parsed)) throw new TypeError('a destination that was not checked');
  return createS3Destination({ ...reach(settings, parsed.value), uploads: uploadsAt(parsed.value), env, hurry });
}

/**
 * The directory where unfinished uploads to a place are recorded: one for each place, since each is swept by itself, and the
 * same one however the place is reached.
 */
export function uploadsAt({ endpoint, bucket, prefix }: S3Location): string {
  const place = JSON.stringify([endpoint ?? null, bucket, prefix]);
  return `${UPLOADS}-${createHash('sha256').update(place).digest('hex').slice(0, 12)}`;
}

/** The bucket that the settings name, or another. USAGE for a directory. */
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

function reach({ awsKey, awsRegion }: Settings, { region, ...location }: S3Location) {
  // The region of the settings is that of their key; a profile has its own.
  const inRegion = region ?? (location.profile === undefined ? awsRegion : undefined);
  return {
    location: { ...location, ...(inRegion === undefined ? {} : { region: inRegion }) },
    ...(awsKey ? { credentials: awsKey } : {}),
  };
}

/** What a helper needs to open the same destination. */
export interface HelperSettings {
  /** what may be seen in its container */
  open: Record<string, string>;
  /** what goes in by its stdin */
  secret: Record<string, string>;
  place: HelperPlace;
}

/** What of the agent's files a destination is opened with. */
export type HelperPlace =
  | { directory: string }
  /** `uploads`: where those are recorded that are begun; `files`: what may hold credentials and certificates */
  | { uploads: string; files: string[] };

/** See {@link HelperSettings}. */
export function helperSettings(settings: Settings, env: NodeJS.ProcessEnv = process.env): HelperSettings {
  const keys = keySettings(settings);
  const open = { LIFEBOAT_DESTINATION: settings.destination, LOG_LEVEL: 'silent' };
  const parsed = isS3(settings.destination) ? parseS3Location(settings.destination) : undefined;
  if (!parsed || !('value' in parsed)) return { open, secret: keys, place: { directory: settings.destination } };
  const { awsKey, awsRegion } = settings;
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
    },
    place: { uploads: uploadsAt(parsed.value), files: [...files, home, ...(certificates ? [certificates] : [])] },
  };
}

/** Never in the environment of a container, the public ones neither: they would be long. */
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
 * Why nothing may be stored at the destination `path` of the agent, judged by its own mounts; undefined when it may. `writing`: false when
 * it is only to be read.
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
