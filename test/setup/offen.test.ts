import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { readComposeProject } from '../../src/setup/compose-files.ts';
import { renderTranslation } from '../../src/setup/foreign.ts';
import { translateOffen } from '../../src/setup/offen.ts';
import { servicesOf } from '../../src/setup/services.ts';
import { withFiles } from './files.ts';

async function translate(text: string) {
  const directory = await withFiles({ 'compose.yml': text });
  const project = await readComposeProject(directory, [], {});
  const found = translateOffen(servicesOf(project, () => undefined).map(({ container }) => container));
  return {
    ...found,
    labels: Object.fromEntries(found.labels),
    text: found.notes.join('\n'),
    printed: renderTranslation(found),
  };
}

const DUMP = "/bin/sh -c 'pg_dump -U shop shop > /dumps/x.sql'";

/** A project with a server, and with an agent that reads one directory of dumps. */
const withDump = ({ pre = DUMP, post = '', more = '', label = 'archive' } = {}) => `services:
  db:
    image: postgres:17
    volumes: ["pg:/var/lib/postgresql/data", "./dumps:/dumps"]
    labels:
      docker-volume-backup.${label}-pre: ${JSON.stringify(pre)}
      docker-volume-backup.${label}-post: ${JSON.stringify(post)}
  backup:
    image: offen/docker-volume-backup:v2
    environment: { BACKUP_RETENTION_DAYS: "14" }
    volumes: ["./dumps:/backup/dumps:ro"]
${more}`;

describe('a command that dumps databases', () => {
  test.each([
    ['a redirection', {}],
    ['the label exec-pre', { label: 'exec' }],
    ['--file', { pre: 'pg_dump -U shop --file=/dumps/x.sql shop' }],
    ['a pipe', { pre: "sh -c 'pg_dumpall -h localhost | gzip > /dumps/all.sql.gz'" }],
  ])('with %s becomes lifeboat.postgres, and its directory is left out', async (_, options) => {
    const { labels, text } = await translate(withDump({ post: 'rm -f /dumps/*', ...options }));
    expect(labels).toEqual({ db: { 'lifeboat.postgres': 'true' } });
    expect(text).toContain('db: /dumps only receives dumps');
    expect(text).toMatch(/-post only removes the dump/);
  });

  test.each(["/bin/sh -c 'rm /dumps/x.sql'", '/bin/rm -f /dumps/x.sql'])('%s is its cleanup', async (post) => {
    expect((await translate(withDump({ post }))).labels).toEqual({ db: { 'lifeboat.postgres': 'true' } });
  });

  test.each(['rm /dumps/x.sql /srv/lock', './tell', 'rm -f /srv/lock'])('%s is no cleanup', async (post) => {
    expect((await translate(withDump({ post }))).labels.db).toMatchObject({ 'lifeboat.exec.post': post });
  });

  test('in another container belongs to the server that it names', async () => {
    const more = `  app:
    image: example/app
    volumes: ["media:/media"]
    labels: { docker-volume-backup.archive-pre: "sh -c 'pg_dump -h db shop > /media/x.sql'" }
  other:
    image: example/app
    labels: { docker-volume-backup.archive-pre: "sh -c 'pg_dump -h db.example.org shop > /tmp/x.sql'" }
`;
    const { labels, text } = await translate(withDump({ more }).replace('./dumps:/backup', 'media:/backup'));
    expect(labels).toEqual({ db: { 'lifeboat.postgres': 'true' }, app: { 'lifeboat.volumes': 'media' } });
    expect(text).toContain('other: docker-volume-backup.archive-pre dumps a database. Give the service of its server');
  });

  test('in an application that keeps the address in a variable is noted, and the application still stops', async () => {
    const more = `  web:
    image: example/app
    volumes: ["uploads:/uploads"]
    labels:
      docker-volume-backup.stop-during-backup: "true"
      docker-volume-backup.archive-pre: "/bin/sh -c 'pg_dump $$DATABASE_URL > /uploads/db.sql'"
`;
    const { labels, text } = await translate(withDump({ more }).replace('./dumps:/backup', 'uploads:/backup'));
    expect(labels.web).toEqual({ 'lifeboat.volumes': 'uploads', 'lifeboat.stop': 'true' });
    expect(text).toContain('web: docker-volume-backup.archive-pre dumps a database. Give the service of its server');
  });

  test('in a volume with other files takes no volume with it, whatever the project is called', async () => {
    const pre = (directory: string) => `sh -c 'pg_dump -h db shop > ${directory}/x.sql'`;
    const more = `  app:
    image: example/app
    volumes: ["media:/media"]
    labels: { docker-volume-backup.archive-pre: "${pre('/media')}" }
`;
    const inApp = withDump({ more }).replace('./dumps:/backup', 'media:/backup');
    expect((await translate(`name: sqlpad\n${inApp}`)).labels.app).toEqual({ 'lifeboat.volumes': 'media' });
    const inServer = withDump({ pre: pre('/uploads') })
      .replaceAll('./dumps:', 'uploads:')
      .replace(':/dumps"', ':/uploads"');
    expect((await translate(inServer)).labels.db).toMatchObject({ 'lifeboat.volumes': 'uploads' });
  });

  test('in the data directory of its server leaves nothing else to say', async () => {
    const pre = "sh -c 'pg_dump shop > /var/lib/postgresql/data/x.sql'";
    const { labels, text } = await translate(withDump({ pre }).replace('./dumps:/backup', 'pg:/backup'));
    expect(labels).toEqual({ db: { 'lifeboat.postgres': 'true' } });
    expect(text).not.toContain('only receives dumps');
  });

  test('whose directory another service has too keeps that volume', async () => {
    const more = '  web: { image: x, volumes: ["./dumps:/srv/files"] }\n';
    const { labels } = await translate(withDump({ more }));
    expect(Object.values(labels).map((own) => own['lifeboat.volumes'])).toContain('/dumps');
  });
});

describe('labels that do not mean here what they mean there', () => {
  const service = (label: string, env = '') => `services:
  web: { image: x, volumes: ["media:/m"], labels: { ${label} } }
  backup:
    image: offen/docker-volume-backup:v2
    environment: { BACKUP_RETENTION_DAYS: "14", ${env} }
    volumes: ["media:/backup/media:ro"]
`;

  test('stop-during-backup-no-restart', async () => {
    const { labels, text } = await translate(service('docker-volume-backup.stop-during-backup-no-restart: "true"'));
    expect(labels.web).toMatchObject({ 'lifeboat.stop': 'true' });
    expect(text).toContain('lifeboat.stop starts it again');
  });

  test.each([
    ['', true],
    ['EXEC_LABEL: shop', false],
    ['EXEC_LABEL: mine', true],
  ])('commands with %j run: %s', async (env, runs) => {
    const label = 'docker-volume-backup.exec-label: mine, docker-volume-backup.archive-pre: ./on';
    const { labels, text } = await translate(service(label, env));
    expect(labels.web?.['lifeboat.exec.pre']).toBe(runs ? './on' : undefined);
    expect(text.includes('its commands never run')).toBe(!runs);
  });
});

describe('settings', () => {
  const agent = (env: string, volumes = '') =>
    translate(`services:
  backup:
    image: offen/docker-volume-backup:v2
    environment: { BACKUP_RETENTION_DAYS: "14", ${env} }
    volumes: ["media:/backup/media:ro"${volumes}]
`);

  test.each([
    ['', 's3://acme/lifeboat?region=REGION'],
    ['AWS_ENDPOINT: s3.amazonaws.com', 's3://acme/lifeboat?region=REGION'],
    ['AWS_REGION: eu-west-1', 's3://acme/lifeboat?region=eu-west-1'],
    ['AWS_ENDPOINT: s3.example.org', 's3://acme/lifeboat?endpoint=https://s3.example.org'],
  ])('a bucket with %j has a region on AWS', async (env, location) => {
    const { settings, text } = await agent(`AWS_S3_BUCKET_NAME: acme, ${env}`);
    expect(settings.LIFEBOAT_DESTINATION).toBe(location);
    expect(text.includes('replace REGION')).toBe(location.includes('REGION'));
  });

  test('a local archive and a bucket: the bucket has a copy', async () => {
    const { settings, text } = await agent('AWS_S3_BUCKET_NAME: acme', ', "./archive:/archive"');
    expect(settings).toMatchObject({ LIFEBOAT_COPY: 's3://acme/lifeboat?region=REGION' });
    expect(settings).not.toHaveProperty('LIFEBOAT_DESTINATION');
    expect(text).toContain('/archive becomes /backups');
  });

  test('the time zone', async () => {
    expect((await agent('TZ: Europe/Berlin')).settings.TZ).toBe('Europe/Berlin');
    expect((await agent('TZ: Nowhere/None')).settings).not.toHaveProperty('TZ');
    const mounted = await agent('', ', "/etc/localtime:/etc/localtime:ro"');
    expect(mounted.text).toContain('/etc/localtime sets the time zone');
    expect((await agent('')).text).not.toContain('time zone');
  });

  test('secrets are lines with variables, and no value is printed', async () => {
    const { printed } = await agent(
      'AWS_S3_BUCKET_NAME: acme, AWS_ACCESS_KEY_ID: canary, AWS_SECRET_ACCESS_KEY_FILE: /run/secrets/s3, GPG_PASSPHRASE: canary, NOTIFICATION_URLS: "smtp://u:canary@h:587/?fromAddress=canary&toAddresses=canary"',
    );
    for (const line of [
      `AWS_ACCESS_KEY_ID: \${AWS_ACCESS_KEY_ID:?}`,
      'AWS_SECRET_ACCESS_KEY_FILE: "/run/secrets/s3"',
      `LIFEBOAT_GPG_PASSPHRASE: \${GPG_PASSPHRASE:?}`,
      `LIFEBOAT_SMTP_URL: \${LIFEBOAT_SMTP_URL:?}`,
      `LIFEBOAT_EMAIL_FROM: \${LIFEBOAT_EMAIL_FROM:?}`,
    ]) {
      expect(printed.split('\n')).toContain(`      ${line}`);
    }
    expect(printed).toContain('fromAddress is the sender');
    expect(printed).not.toContain('canary');
    expect(parse(printed).services.lifeboat.environment.LIFEBOAT_GPG_PASSPHRASE).toBe(`\${GPG_PASSPHRASE:?}`);
  });

  test.each([
    ['AWS_ENDPOINT_INSECURE: "true"', 'NODE_EXTRA_CA_CERTS'],
    ['AWS_ENDPOINT_CA_CERT: /ca.pem', 'NODE_EXTRA_CA_CERTS'],
    ['AWS_IAM_ROLE_ENDPOINT: "http://169.254.169.254"', 'the role of the machine'],
    ['GOOGLE_DRIVE_FOLDER_ID: x', 'GOOGLE_DRIVE_FOLDER_ID has no counterpart'],
    ['EMAIL_NOTIFICATION_RECIPIENT: you@example.org', 'LIFEBOAT_EMAIL_TO'],
    ['EMAIL_SMTP_HOST: mail.example.org', 'LIFEBOAT_SMTP_URL'],
    ['NOTIFICATION_URLS_FILE: /run/secrets/urls', 'NOTIFICATION_URLS_FILE: the file is not read here'],
    ['AWS_STORAGE_CLASS: STANDARD_IA', 'storage-class'],
  ])('%s has a comment', async (env, part) => {
    expect((await agent(env)).text).toContain(part);
  });

  test('files with several schedules have a comment', async () => {
    const { text } = await agent('', ', "./conf.d:/etc/dockervolumebackup/conf.d"');
    expect(text).toContain('lifeboat.schedule and lifeboat.keep');
  });

  test('the schedule @daily stays', async () => {
    expect((await agent('')).settings.LIFEBOAT_SCHEDULE).toBe('@daily');
  });
});
