import { describe, expect, test } from 'vitest';
import { secretValues } from '../../src/app/secret-values.ts';
import { LifeboatError } from '../../src/base/errors.ts';
import { CHANNELS } from '../../src/plan/messages/notify-modes.ts';
import { SETTINGS } from '../../src/plan/setting-table.ts';
import { parseSettings } from '../../src/plan/settings.ts';

const FILES: Readonly<Record<string, string>> = {
  '/run/secrets/password': 'hunter2 \n',
  '/run/secrets/empty': '\n',
  '/run/secrets/zone': 'Europe/Berlin\r\n',
};

function readFile(path: string): string {
  if (Object.hasOwn(FILES, path)) return FILES[path]!;
  throw Object.assign(new Error(`ENOENT: no such file or directory, open '${path}'`), { code: 'ENOENT' });
}

const parse = (env: Record<string, string | undefined>) => parseSettings(env, readFile);

function refusal(env: Record<string, string>): LifeboatError {
  try {
    parse(env);
  } catch (error) {
    if (error instanceof LifeboatError) return error;
    throw error;
  }
  throw new Error('the settings were accepted');
}

/** The same mode for each channel. */
const modes = (mode: string) => Object.fromEntries(CHANNELS.map((name) => [name, mode]));

describe('settings', () => {
  test('have defaults', () => {
    expect(parse({ PATH: '/bin', POSTGRES_USER: 'app' })).toEqual({
      schedule: '0 3 * * *',
      keep: { daily: 7, weekly: 4, monthly: 12 },
      fall: 0.5,
      maxUnused: 0.05,
      destination: '/backups',
      copies: [],
      keys: {},
      scope: { kind: 'project' },
      messages: { notify: modes('always'), healthchecks: { base: 'https://hc-ping.com' } },
      unattendedRestore: true,
      stallTimeoutMs: 900_000,
      baseSchedule: '30 4 * * 0',
      drill: {
        mode: 'schedule',
        schedule: '0 6 * * 6',
        timeoutMs: 43_200_000,
        assertTimeoutMs: 60_000,
        memory: 2 ** 31,
      },
      pgCredentials: [],
      logLevel: 'info',
      timeZone: 'UTC',
    });
  });

  test('are parsed', () => {
    const env = {
      LIFEBOAT_SCHEDULE: '@hourly',
      LIFEBOAT_KEEP: 'last 3',
      LIFEBOAT_FALL: '20%',
      LIFEBOAT_DESTINATION: '/mnt//store/',
      LIFEBOAT_COPY: ' /nas/?keep=90d+12m\n',
      LIFEBOAT_SCOPE: 'shop, blog',
      LIFEBOAT_PROJECT: 'shop',
      LIFEBOAT_HEALTHCHECKS_PING_KEY: 'k3y-abc',
      LIFEBOAT_HEALTHCHECKS_SLUG: 'shop',
      LIFEBOAT_HEALTHCHECKS_BASE: 'https://hc.example.org/ping/',
      LIFEBOAT_SLACK_WEBHOOK_URL: 'https://hooks.slack.com/services/T/B/x',
      LIFEBOAT_WEBHOOK_URL: 'http://hub:8080',
      LIFEBOAT_NOTIFY: 'Always',
      LIFEBOAT_RPO: '1d',
      LIFEBOAT_RTO: '1h',
      LIFEBOAT_STALL_TIMEOUT: '2h',
      LIFEBOAT_PGUSER: 'backup',
      LIFEBOAT_PGPASSWORD: ' with spaces ',
      LOG_LEVEL: 'DEBUG',
      LOG_FORMAT: 'text',
      TZ: 'Europe/Berlin',
    };
    const settings = parse(env);
    expect(settings).toEqual({
      schedule: '@hourly',
      keep: { last: 3 },
      fall: 0.2,
      maxUnused: 0.05,
      destination: '/mnt/store',
      copies: [{ location: '/nas', name: '/nas', keep: { daily: 90, monthly: 12 } }],
      keys: {},
      scope: { kind: 'projects', names: ['shop', 'blog'] },
      project: 'shop',
      messages: {
        notify: modes('always'),
        healthchecks: { pingKey: 'k3y-abc', slug: 'shop', base: 'https://hc.example.org/ping' },
        slackUrl: 'https://hooks.slack.com/services/T/B/x',
        webhook: { url: 'http://hub:8080' },
      },
      unattendedRestore: true,
      stallTimeoutMs: 7_200_000,
      rpoMs: 86_400_000,
      rtoMs: 3_600_000,
      baseSchedule: '30 4 * * 0',
      drill: {
        mode: 'schedule',
        schedule: '0 6 * * 6',
        timeoutMs: 43_200_000,
        assertTimeoutMs: 60_000,
        memory: 2 ** 31,
      },
      pgUser: 'backup',
      pgPassword: ' with spaces ',
      pgCredentials: [],
      logLevel: 'debug',
      logFormat: 'text',
      timeZone: 'Europe/Berlin',
    });
    expect(secretValues(settings)).toEqual([
      'k3y-abc',
      'https://hooks.slack.com/services/T/B/x',
      'http://hub:8080',
      ' with spaces ',
    ]);
  });

  test('are parsed for S3', () => {
    const env = {
      LIFEBOAT_DESTINATION: ' s3://acme-backups/shop?endpoint=https://s3.example.org&storage-class=STANDARD_IA ',
      AWS_ACCESS_KEY_ID: 'AKIA1',
      AWS_SECRET_ACCESS_KEY_FILE: '/run/secrets/password',
      AWS_REGION: 'eu-central-1',
    };
    const settings = parse(env);
    expect(settings).toMatchObject({
      destination: 's3://acme-backups/shop?endpoint=https://s3.example.org&storage-class=STANDARD_IA',
      awsKey: { accessKeyId: 'AKIA1', secretAccessKey: 'hunter2' },
      awsRegion: 'eu-central-1',
    });
    expect(secretValues(settings)).toEqual(['AKIA1', 'hunter2']);
  });

  test('may include several signing keys, one a line, each of them a secret', () => {
    const settings = parse({ LIFEBOAT_SIGNING_KEY: '\n first key of many letters \nthe key before it\n\n' });
    expect(settings.signingKeys).toEqual(['first key of many letters', 'the key before it']);
    expect(secretValues(settings)).toEqual(settings.signingKeys);
  });

  test('that are empty count as not set, planned and contradicting ones too', () => {
    const names = Object.keys(SETTINGS).flatMap((name) => [name, `${name}_FILE`]);
    expect(parse(Object.fromEntries(names.map((name) => [name, ' '])))).toEqual(parse({}));
  });
});

describe('files', () => {
  test('are read without trailing white space', () => {
    const settings = parse({ LIFEBOAT_PGPASSWORD_FILE: '/run/secrets/password', TZ_FILE: '/run/secrets/zone' });
    expect(settings).toMatchObject({ pgPassword: 'hunter2', timeZone: 'Europe/Berlin' });
  });

  test('and the value itself exclude each other', () => {
    const env = { LIFEBOAT_PGPASSWORD: 'a', LIFEBOAT_PGPASSWORD_FILE: '/run/secrets/password' };
    expect(refusal(env).message).toBe('LIFEBOAT_PGPASSWORD and LIFEBOAT_PGPASSWORD_FILE are both set');
    expect(parse({ ...env, LIFEBOAT_PGPASSWORD: '' }).pgPassword).toBe('hunter2');
  });

  test('that cannot be read are refused, in a message without anything that may be secret', () => {
    const error = refusal({ LIFEBOAT_PGPASSWORD_FILE: 'hunter2' });
    expect(error.message).toBe('the file that LIFEBOAT_PGPASSWORD_FILE names cannot be read (ENOENT)');
    expect(JSON.stringify([error.message, error.hint])).not.toContain('hunter2');
  });

  test('that are empty are refused', () => {
    const error = refusal({ LIFEBOAT_PGPASSWORD_FILE: '/run/secrets/empty' });
    expect(error.message).toBe('the file that LIFEBOAT_PGPASSWORD_FILE names is empty');
  });
});

describe('mistakes', () => {
  test.each([
    ['LIFEBOAT_AGE_RECIPIENT', 'did you mean LIFEBOAT_AGE_RECIPIENTS?'],
    ['LIFEBOAT_RECIPIENTS', 'did you mean LIFEBOAT_AGE_RECIPIENTS?'],
    ['LIFEBOAT_SCHEDUEL', 'did you mean LIFEBOAT_SCHEDULE?'],
    ['lifeboat_keep', 'did you mean LIFEBOAT_KEEP?'],
    ['LIFEBOAT_PG_PASSWORD', 'did you mean LIFEBOAT_PGPASSWORD?'],
    ['LIFEBOAT_PG_PASSWORD_FILE', 'did you mean LIFEBOAT_PGPASSWORD_FILE?'],
    ['LIFEBOAT_LOG_LEVEL', 'did you mean LOG_LEVEL?'],
    ['LIFEBOAT_TZ', 'did you mean TZ?'],
    ['LIFEBAOT_SCHEDULE', 'did you mean LIFEBOAT_SCHEDULE?'],
    ['LIFBOAT_KEEP', 'did you mean LIFEBOAT_KEEP?'],
    ['LIFEBOAT_ELEPHANT', undefined],
    ['LIFEBOAT___proto__', undefined],
  ])('unknown %s', (name, hint) => {
    for (const value of ['s3cret', '']) {
      const error = refusal({ [name]: value });
      expect(error).toMatchObject({ code: 'SETTING_UNKNOWN', message: `unknown setting ${name}`, hint });
    }
  });

  test.each([
    ['LIFEBOAT_DESTINATION', 's3://bucket/prefix', 'names neither a region nor an endpoint'],
    ['LIFEBOAT_DESTINATION', 's3:bucket', 'does not name a bucket'],
    ['LIFEBOAT_DESTINATION', 's3://My_Bucket?region=eu-central-1', 'has a bucket name that no bucket can have'],
    ['LIFEBOAT_DESTINATION', 's3://bucket/a/../b?region=eu-central-1', 'starts with a dot'],
    ['LIFEBOAT_DESTINATION', 's3://bucket?region=eu-central-1&region=eu-west-1', 'has region twice'],
    ['LIFEBOAT_DESTINATION', 's3://bucket?regoin=eu-central-1', 'has an unknown option after the ?'],
    ['LIFEBOAT_DESTINATION', 's3://bucket?endpoint=minio:9000', 'is not the http or https address of a server'],
    [
      'LIFEBOAT_DESTINATION',
      's3://bucket?region=eu-central-1&storage-class=DEEP_ARCHIVE',
      'cannot be read back at once',
    ],
    ['LIFEBOAT_DESTINATION', 's3://bucket?endpoint=http://minio:9000&path-style=maybe', 'neither true nor false'],
    ['AWS_ACCESS_KEY_ID', 'AKIA1', 'does nothing without AWS_SECRET_ACCESS_KEY'],
    ['AWS_REGION', 'Frankfurt (EU)', 'does not have the right form'],
    ['LIFEBOAT_DESTINATION', 'backups', 'is not an absolute path'],
    ['LIFEBOAT_DESTINATION', '/', 'is the root directory'],
    ['LIFEBOAT_DESTINATION', '/backups/../etc', 'has .. as a part'],
    ['LIFEBOAT_SCHEDULE', '* * * * * *', 'has six fields'],
    ['LIFEBOAT_KEEP', '0d', 'keeps nothing'],
    ['LIFEBOAT_SIGNING_KEY', 'fifteen letters', 'has a line of fewer than 16 characters'],
    ['LIFEBOAT_SIGNING_KEY', 'a key of enough letters\nshort', 'has a line of fewer than 16 characters'],
    ['LIFEBOAT_DRILL_CPUS', '0', 'is not a number of processors from 0.1 to 1024'],
    ['LIFEBOAT_DRILL_CPUS', 'half', 'is not a number of processors from 0.1 to 1024'],
    ['LIFEBOAT_DRILL_MEMORY', '100MiB', 'is not an amount of memory from 256MiB to 1TiB'],
    ['LIFEBOAT_DRILL_MEMORY', '2', 'is not an amount of memory from 256MiB to 1TiB'],
    ['LIFEBOAT_FALL', '0%', 'is not a percentage'],
    ['LIFEBOAT_FALL', '101', 'is not a percentage'],
    ['LIFEBOAT_FALL', 'half', 'is not a percentage'],
    ['LIFEBOAT_SCOPE', 'Shop', 'no Compose project can have'],
    ['LIFEBOAT_SCOPE', 'shop,,blog', 'has an empty item'],
    ['LIFEBOAT_STALL_TIMEOUT', '5s', 'is not between 10s and 7d'],
    ['LIFEBOAT_NOTIFY', 'never', 'has "never", which is no possible value'],
    ['LIFEBOAT_NOTIFY', 'always failure', 'has two values for all channels'],
    ['LIFEBOAT_NOTIFY', 'emial=failure', 'names the unknown channel "emial"'],
    ['LIFEBOAT_NOTIFY', 'email=failure, email=change', 'names the channel email twice'],
    ['LIFEBOAT_HEALTHCHECKS_SOURCES', 'all', 'LIFEBOAT_HEALTHCHECKS_PING_KEY is not set'],
    ['LIFEBOAT_HEALTHCHECKS_SOURCES', 'db.postgres', 'has a wrong line, number 1'],
    ['LIFEBOAT_SMTP_URL', 'smtp://mail', 'does nothing without LIFEBOAT_EMAIL_TO'],
    ['LIFEBOAT_TELEGRAM_TOKEN', 'a-token', 'does nothing without LIFEBOAT_TELEGRAM_CHAT'],
    ['LOG_LEVEL', 'verbose', 'is not one of the possible values'],
    ['TZ', 'Europe/Berln', 'is not a time zone'],
    ['LIFEBOAT_HEALTHCHECKS_SLUG', 'shop', 'does nothing without LIFEBOAT_HEALTHCHECKS_PING_KEY'],
    ['LIFEBOAT_HEALTHCHECKS_URL', 'https://hc-ping.com', 'names a host only'],
  ])('%s=%s', (name, value, problem) => {
    const error = refusal({ [name]: value });
    expect(error.code).toBe('SETTING_INVALID');
    expect(error.message).toContain(problem);
    expect(error.message).toContain(name);
  });

  test('a bare % in the password of a mail server', () => {
    const error = refusal({ LIFEBOAT_EMAIL_TO: 'a@x.org', LIFEBOAT_SMTP_URL: 'smtps://me:50%off@mail' });
    expect(error.message).toContain('LIFEBOAT_SMTP_URL has a % in the user or the password that begins no %XX');
    expect(error.message).not.toContain('off@');
  });

  test.each([
    's3://AKIA:canary-key@bucket/prefix',
    's3://bucket?secret-access-key=canary-key',
    's3://bucket?endpoint=https://id:canary-key',
    's3://bucket?region=canary-key!',
  ])('a key in the destination is refused, and not told: %s', (value) => {
    const error = refusal({ LIFEBOAT_DESTINATION: value, TZ: 'CEST' });
    expect(JSON.stringify([error.message, error.hint])).not.toContain('canary');
    expect(error.message).toContain('LIFEBOAT_DESTINATION');
  });

  test('a URL and a ping key exclude each other', () => {
    const url = 'https://hc-ping.com/0b1c';
    const env = { LIFEBOAT_HEALTHCHECKS_URL: url, LIFEBOAT_HEALTHCHECKS_PING_KEY: 'abcdef' };
    expect(refusal(env).message).toBe('LIFEBOAT_HEALTHCHECKS_URL and LIFEBOAT_HEALTHCHECKS_PING_KEY are both set');
  });

  test('are reported together, in the order of the table', () => {
    const error = refusal({ TZ: 'CEST', LIFEBOAT_KEEP: '7', LIFEBOAT_COPY: '/copy /backups', LIFEBOAT_KEEEP: '7d' });
    expect(error.code).toBe('SETTING_INVALID');
    expect(error.message.split('\n')).toEqual([
      '4 settings cannot be used:',
      '  unknown setting LIFEBOAT_KEEEP (did you mean LIFEBOAT_KEEP?)',
      '  LIFEBOAT_KEEP "7" has a number without a unit (write 7d for days, or last 7)',
      '  LIFEBOAT_COPY names /backups, which is where LIFEBOAT_DESTINATION is (a copy needs a place of its own, on another disk or server)',
      '  TZ "CEST" is not a time zone (write a name such as Europe/Berlin, or UTC)',
    ]);
  });

  const secrets = Object.entries(SETTINGS).filter(([, field]) => 'secret' in field);
  test.each(secrets)('%s is never told', (name) => {
    const error = refusal({ [name]: 'canary\0 1f8c', TZ: 'CEST' });
    expect(JSON.stringify([error.message, error.hint])).not.toContain('canary');
  });
});

test('messages have settings for each channel, and every secret is known', () => {
  const { messages, ...rest } = parseSettings(
    {
      ...{ LIFEBOAT_SMTP_URL: 'smtps://me:pw@mail', LIFEBOAT_EMAIL_TO: 'a@x.org, b@x.org' },
      ...{ LIFEBOAT_TELEGRAM_TOKEN: '123:ABCdefGHIjklMNOpqrSTU', LIFEBOAT_TELEGRAM_CHAT: '-1001' },
      ...{
        LIFEBOAT_PAGERDUTY_ROUTING_KEY: 'r'.repeat(32),
        LIFEBOAT_NTFY_URL: 'https://ntfy.sh/t',
        LIFEBOAT_NTFY_TOKEN: 'tk',
      },
      ...{ LIFEBOAT_WEBHOOK_URL: 'https://hub/x', LIFEBOAT_WEBHOOK_SECRET: 'sign' },
      LIFEBOAT_HEALTHCHECKS_SOURCES: '# checks\ndb.postgres = https://hc/1\nweb.media=https://hc/2',
      LIFEBOAT_NOTIFY: 'failure, email=change slack=always',
    },
    () => '',
  );
  expect(messages).toMatchObject({
    email: { server: 'smtps://me:pw@mail', from: 'a@x.org', to: ['a@x.org', 'b@x.org'] },
    telegram: { chat: '-1001', base: 'https://api.telegram.org' },
    healthchecks: {
      sources: { kind: 'named', checks: [{ source: 'db.postgres', url: 'https://hc/1' }, { source: 'web.media' }] },
    },
    notify: { slack: 'always', email: 'change', webhook: 'failure', ntfy: 'failure' },
  });
  expect(secretValues({ messages, ...rest }).sort()).toEqual(
    [
      'smtps://me:pw@mail',
      '123:ABCdefGHIjklMNOpqrSTU',
      'r'.repeat(32),
      'https://ntfy.sh/t',
      'tk',
      'https://hub/x',
      'sign',
    ]
      .concat(['https://hc/1', 'https://hc/2'])
      .sort(),
  );
});
