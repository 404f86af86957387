/** Returns the location of a repository in a bucket that another program used: next to its files, never among them. */
export function objectStore({
  bucket,
  prefix = '',
  endpoint,
}: {
  bucket: string;
  prefix?: string;
  endpoint?: string;
}): string {
  const path = [...prefix.split('/'), 'lifeboat'].filter((part) => part !== '').join('/');
  const isAws = endpoint === undefined || /^https:\/\/s3[.-]([a-z0-9-]+\.)?amazonaws\.com$/.test(endpoint);
  const region = /^https:\/\/s3[.-]([a-z0-9-]+)\.amazonaws\.com$/.exec(endpoint ?? '')?.[1];
  const options = isAws ? (region === undefined ? '' : `?region=${region}`) : `?endpoint=${endpoint}`;
  return `s3://${bucket}/${path}${options}`;
}
