import { execFileSync } from 'node:child_process';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { helperSettings, openDestination, openElsewhere, uploadsAt } from '../../src/app/destinations.ts';
import { secretValues } from '../../src/app/secret-values.ts';
import { parseS3Location } from '../../src/plan/s3-location.ts';
import { parseSettings } from '../../src/plan/settings.ts';
import { treeJobMain } from '../../src/trees/job.ts';

const parse = (env: Record<string, string>) =>
  parseSettings(env, () => {
    throw new Error('no files');
  });

const IDENTITY = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
const S3 = {
  LIFEBOAT_DESTINATION: 's3://acme/shop?region=eu-central-1',
  AWS_ACCESS_KEY_ID: 'canary-id',
  AWS_SECRET_ACCESS_KEY: 'canary-secret',
  AWS_SESSION_TOKEN: 'canary-token',
};

test('the form of a setting decides the kind of destination', () => {
  expect(openDestination(parse({})).name).toBe('/backups');
  expect(openDestination(parse(S3)).name).toBe('s3://acme/shop');
});

test('a copy has the name that the settings give it, however it is opened', () => {
  const location = 's3://acme/shop?endpoint=https://s3.example.org';
  const settings = parse({ ...S3, LIFEBOAT_COPY: location });
  expect(openElsewhere(location, settings).name).toBe(location);
  // `--from` and drills open it as their destination.
  expect(openDestination({ ...settings, destination: location }).name).toBe(location);
  expect(openElsewhere('s3://acme/shop?endpoint=https://elsewhere', settings).name).toBe('s3://acme/shop');
});

test('uploads to each location are recorded in a separate directory', () => {
  const at = (location: string) => {
    const parsed = parseS3Location(location);
    if (!('value' in parsed)) throw new TypeError(parsed.problem);
    return uploadsAt(parsed.value);
  };
  const endpoint = 'endpoint=https://s3.example.org';
  const one = at(`s3://acme/shop?${endpoint}`);
  const options = ['region=eu-central-1', 'storage-class=STANDARD_IA', 'path-style=false', 'profile=other'];
  for (const option of options) expect(at(`s3://acme/shop/?${option}&${endpoint}`), option).toBe(one);
  const others = ['s3://acme/shop', `s3://acme/blog?${endpoint}`, `s3://other/shop?${endpoint}`];
  expect(new Set([one, ...others.map(at)]).size).toBe(4);
});

test('a helper for a directory gets no keys', () => {
  const env = { AWS_PROFILE: 'canary-profile', HTTPS_PROXY: 'http://u:canary-proxy@proxy:3128' };
  const settings = parse({ ...S3, LIFEBOAT_DESTINATION: '/backups' });
  expect(JSON.stringify(helperSettings(settings, env))).not.toContain('canary');
});

test('a helper for a bucket opens the same bucket, and its environment holds no key and no proxy', () => {
  const env = { HTTPS_PROXY: 'http://u:canary-proxy@proxy:3128', NODE_EXTRA_CA_CERTS: '/ca.pem', PATH: '/bin' };
  const { open, secret } = helperSettings(parse(S3), env);
  expect(JSON.stringify(open)).not.toContain('canary');
  expect(open).toEqual({
    LIFEBOAT_DESTINATION: S3.LIFEBOAT_DESTINATION,
    LOG_LEVEL: 'silent',
    NODE_EXTRA_CA_CERTS: '/ca.pem',
  });
  expect(secret).toMatchObject({ HTTPS_PROXY: env.HTTPS_PROXY });
  const again = parse({ ...open, ...secret });
  expect(again).toMatchObject({ destination: S3.LIFEBOAT_DESTINATION, awsKey: parse(S3).awsKey });
});

test('the settings that come with a job through stdin open its destination', async () => {
  const job = { kind: 'measure', root: import.meta.dirname, include: [], exclude: [] };
  let given: unknown;
  const lines: string[] = [];
  await treeJobMain(
    Readable.from([JSON.stringify({ job, settings: { AWS_REGION: 'eu-central-1' } })]),
    (line) => void lines.push(line),
    (settings) => {
      given = settings;
      return { destination: openDestination(parse({})), keys: {} };
    },
    AbortSignal.timeout(10_000),
  );
  expect(given).toEqual({ AWS_REGION: 'eu-central-1' });
  expect(JSON.parse(lines.at(-1) ?? '')).toMatchObject({ type: 'result', result: { whole: true } });
});

test('a helper gets keys only through stdin, unchanged', () => {
  const env = { ...S3, LIFEBOAT_GPG_PASSPHRASE: 'canary passphrase', LIFEBOAT_AGE_IDENTITY: IDENTITY };
  for (const destination of ['/backups', S3.LIFEBOAT_DESTINATION]) {
    const settings = parse({ ...env, LIFEBOAT_DESTINATION: destination });
    const { open, secret } = helperSettings(settings, {});
    expect(JSON.stringify(open)).not.toMatch(/canary|AGE/);
    expect(parse({ ...open, ...secret }).keys).toEqual(settings.keys);
  }
});

test('a location with a customer key needs the key, and a helper gets it only through stdin', () => {
  const customer = { ...S3, LIFEBOAT_DESTINATION: `${S3.LIFEBOAT_DESTINATION}&sse=customer` };
  expect(() => parse(customer)).toThrow('LIFEBOAT_DESTINATION asks for sse=customer, but there is no customer key');
  const copy = { LIFEBOAT_COPY: 's3://acme/copy?region=eu-central-1&sse=customer&keep=7d' };
  expect(() => parse(copy)).toThrow('LIFEBOAT_COPY asks for sse=customer');
  for (const wrong of ['canary', Buffer.alloc(31).toString('base64')])
    expect(() => parse({ ...customer, LIFEBOAT_S3_CUSTOMER_KEY: wrong }), wrong).toThrow(
      'does not have the right form',
    );
  const key = Buffer.from('canary-canary-canary-canary-cana').toString('base64');
  const settings = parse({ ...customer, LIFEBOAT_S3_CUSTOMER_KEY: key });
  expect(secretValues(settings)).toContain(key);
  const { open, secret } = helperSettings(settings, {});
  expect(JSON.stringify(open)).not.toContain(key);
  expect(parse({ ...open, ...secret }).customerKey).toBe(key);
});
