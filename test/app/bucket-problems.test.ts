import { expect, test } from 'vitest';
import { bucketProblems } from '../../src/commands/bucket.ts';
import { parseSettings } from '../../src/plan/settings.ts';
import { s3Error, startStubS3 } from '../harness/stub-s3.ts';

const RULES = `<LifecycleConfiguration><Rule><ID>tidy</ID><Filter><Prefix></Prefix></Filter><Status>Enabled</Status>
<Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>`;

test('harmful rules of the destination and every copy are reported, even if one of them does not answer', async () => {
  const stub = await startStubS3(({ url = '' }, answer) => {
    if (url.startsWith('/refusing')) answer.writeHead(403).end(s3Error('AccessDenied'));
    else answer.end(RULES);
  });
  const at = (bucket: string) => `s3://${bucket}/shop?endpoint=${stub.endpoint}`;
  const told = async (destination: string, copies: string[]) => {
    const env = { LIFEBOAT_DESTINATION: destination, LIFEBOAT_COPY: copies.join(' ') };
    const key = { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'canary-secret' };
    const settings = parseSettings({ ...env, ...key }, () => '');
    return (await bucketProblems(settings, {})).map(({ code, subject }) => `${code} ${subject}`);
  };
  try {
    expect(await told('/backups', ['/mnt/copy', at('first'), at('second')])).toEqual([
      'DEST_RULES s3://first/shop',
      'DEST_RULES s3://second/shop',
    ]);
    expect(await told(at('refusing'), [at('second')])).toEqual(['DEST_RULES s3://second/shop']);
  } finally {
    stub.stop();
  }
});
