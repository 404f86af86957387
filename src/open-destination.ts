import path from 'node:path';
import type { SweepingDestination } from './destinations/destination.ts';
import { createLocalDestination } from './destinations/local.ts';
import { createS3Destination } from './destinations/s3.ts';
import { isS3, parseS3Location } from './plan/s3-location.ts';
import { AWS_ENVIRONMENT, type Settings } from './plan/settings.ts';
import { SPOOL } from './spool.ts';

/** Beside the state: helpers write there too, and the sweep of the next run reads it. */
const UPLOADS = path.join(SPOOL, 'state', 's3-uploads');

/** The destination that the settings name. The only place that knows which kinds there are. */
export function openDestination(settings: Settings, env: NodeJS.ProcessEnv = process.env): SweepingDestination {
  if (!isS3(settings.destination)) return createLocalDestination({ root: settings.destination });
  const parsed = parseS3Location(settings.destination);
  if (!('value' in parsed)) throw new TypeError('a destination that was not checked');
  const { region, ...location } = parsed.value;
  const inRegion = region ?? settings.awsRegion;
  return createS3Destination({
    location: { ...location, ...(inRegion === undefined ? {} : { region: inRegion }) },
    ...(settings.awsKey ? { credentials: settings.awsKey } : {}),
    uploads: UPLOADS,
    env,
  });
}

/** What a helper needs to open the same destination: what may be seen in its container, and what goes in by its stdin. */
export function helperSettings(
  settings: Settings,
  env: NodeJS.ProcessEnv = process.env,
): { open: Record<string, string>; secret: Record<string, string> } {
  const open = { LIFEBOAT_DESTINATION: settings.destination, LOG_LEVEL: 'silent' };
  if (!isS3(settings.destination)) return { open, secret: {} };
  const { awsKey, awsRegion } = settings;
  const given = AWS_ENVIRONMENT.flatMap((name) => (env[name] ? [[name, env[name]] as const] : []));
  const certificates = env.NODE_EXTRA_CA_CERTS;
  return {
    open: { ...open, ...(certificates ? { NODE_EXTRA_CA_CERTS: certificates } : {}) },
    secret: {
      ...Object.fromEntries(given),
      ...(awsRegion ? { AWS_REGION: awsRegion } : {}),
      ...(awsKey ? { AWS_ACCESS_KEY_ID: awsKey.accessKeyId, AWS_SECRET_ACCESS_KEY: awsKey.secretAccessKey } : {}),
      ...(awsKey?.sessionToken ? { AWS_SESSION_TOKEN: awsKey.sessionToken } : {}),
    },
  };
}
