import type { Translation } from './foreign.ts';

interface ObjectStore {
  bucket: string;
  prefix?: string;
  endpoint?: string;
  region?: string | undefined;
}

/**
 * Adds the location of a repository in a bucket that another program used: next to its files, never among them. AWS
 * needs a region, which other programs often find by themselves.
 */
export function addObjectStore(
  { settings, notes }: Translation,
  { bucket, prefix = '', endpoint, region }: ObjectStore,
  setting: 'LIFEBOAT_DESTINATION' | 'LIFEBOAT_COPY' = 'LIFEBOAT_DESTINATION',
): void {
  const path = [...prefix.split('/'), 'lifeboat'].filter((part) => part !== '').join('/');
  const isAws = endpoint === undefined || /^https:\/\/s3[.-]([a-z0-9-]+\.)?amazonaws\.com$/.test(endpoint);
  const named = /^https:\/\/s3[.-]([a-z0-9-]+)\.amazonaws\.com$/.exec(endpoint ?? '')?.[1] ?? region;
  settings[setting] = `s3://${bucket}/${path}?${isAws ? `region=${named || 'REGION'}` : `endpoint=${endpoint}`}`;
  if (isAws && !named) notes.push(`${setting}: replace REGION by the region of the bucket, such as eu-central-1.`);
}
