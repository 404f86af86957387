import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { LABELS } from '../../src/plan/labels.ts';
import { parseLocation } from '../../src/plan/location.ts';
import { parseSettings } from '../../src/plan/settings.ts';
import { readComposeProject } from '../../src/setup/compose-files.ts';
import { renderTranslation, type Translation } from '../../src/setup/foreign.ts';
import { translateOffen } from '../../src/setup/offen.ts';
import { servicesOf } from '../../src/setup/services.ts';
import { translateStackBack } from '../../src/setup/stack-back.ts';
import { withFiles } from './files.ts';

/** Translates the set-up in a Compose file, and checks that everything translated is valid here. */
async function translate(of: typeof translateOffen, text: string) {
  const directory = await withFiles({ 'compose.yml': text });
  const project = await readComposeProject(directory, [], {});
  const translation = of(servicesOf(project, () => undefined).map(({ container }) => container));
  const labels = Object.fromEntries(translation.labels);
  for (const own of Object.values(labels)) {
    for (const [key, value] of Object.entries(own)) {
      const field = (LABELS as Record<string, { parse(text: string): object }>)[key];
      expect(field?.parse(value), key).toHaveProperty('value');
    }
  }
  const settings = parseSettings(translation.settings, () => '');
  expect(parseLocation(settings.destination)).toHaveProperty('value');
  return { ...translation, labels, translation };
}

const asCompose = (translation: Translation) => parse(renderTranslation(translation));

describe('offen/docker-volume-backup', () => {
  const SHOP = `services:
  db:
    image: postgres:17
    volumes: [pg:/var/lib/postgresql/data]
    labels:
      - docker-volume-backup.stop-during-backup=true
      - docker-volume-backup.archive-pre=/bin/sh -c 'pg_dumpall -U shop > /tmp/dump.sql'
  web:
    image: example/web
    volumes: ["media:/app/media", "./uploads:/app/uploads"]
    labels:
      docker-volume-backup.stop-during-backup: "true"
      docker-volume-backup.archive-pre: /bin/sh -c 'echo "$$HOME"'
      docker-volume-backup.archive-pre.user: app
      docker-volume-backup.archive-post: ./on
      docker-volume-backup.copy-post: ./upload
  worker:
    image: example/web
    volumes: ["media:/media:ro"]
  backup:
    image: offen/docker-volume-backup:v2
    environment:
      BACKUP_CRON_EXPRESSION: "0 30 2 * * ?"
      BACKUP_RETENTION_DAYS: "14"
      AWS_S3_BUCKET_NAME: acme
      AWS_S3_PATH: backups/shop
      AWS_ENDPOINT: s3.example.org
      GPG_PASSPHRASE: canary-passphrase
      NOTIFICATION_URLS: slack://canary-token@channel
    volumes:
      - media:/backup/media:ro
      - ./uploads:/backup/uploads:ro
      - pg:/backup/pg:ro
      - lost:/backup/lost:ro
      - ./archive:/archive
`;

  test('becomes labels and settings', async () => {
    const { labels, settings, notes } = await translate(translateOffen, SHOP);
    expect(labels).toEqual({
      db: { 'lifeboat.postgres': 'true' },
      web: {
        'lifeboat.volumes': 'media,/app/uploads',
        'lifeboat.stop': 'true',
        'lifeboat.exec.pre': `/bin/sh -c 'echo "$HOME"'`,
        'lifeboat.exec.post': './on',
        'lifeboat.exec.user': 'app',
      },
    });
    expect(settings).toEqual({
      LIFEBOAT_SCHEDULE: '30 2 * * *',
      LIFEBOAT_KEEP: '14d',
      LIFEBOAT_COPY: 's3://acme/backups/shop/lifeboat?endpoint=https://s3.example.org',
      LIFEBOAT_NOTIFY: 'failure',
    });
    const text = notes.join('\n');
    for (const part of [
      'project_lost',
      'dumps a database',
      'db does not have to stop',
      'copy-post has no counterpart',
    ]) {
      expect(text).toContain(part);
    }
  });

  test('is printed as a Compose file that Compose understands, without secrets', async () => {
    const { labels, translation } = await translate(translateOffen, SHOP);
    const printed = asCompose(translation);
    expect(printed.services.lifeboat.environment.LIFEBOAT_KEEP).toBe('14d');
    // Compose replaces `$$` by `$`.
    expect(printed.services.web.labels['lifeboat.exec.pre'].replaceAll('$$', '$')).toBe(
      labels.web?.['lifeboat.exec.pre'],
    );
    expect(renderTranslation(translation)).not.toContain('canary');
    expect(parse(renderTranslation(translation, 'guard')).services.guard.environment.LIFEBOAT_KEEP).toBe('14d');
  });

  test.each([
    ['slack://t@c', ['LIFEBOAT_SLACK_WEBHOOK_URL']],
    ['discord://t@c,ntfy://ntfy.sh/x', ['LIFEBOAT_DISCORD_WEBHOOK_URL', 'LIFEBOAT_NTFY_URL']],
    ['smtp://u:p@h/?to=a', ['LIFEBOAT_SMTP_URL, LIFEBOAT_EMAIL_FROM, LIFEBOAT_EMAIL_TO']],
    ['telegram://t@telegram?chats=1', ['LIFEBOAT_TELEGRAM_TOKEN, LIFEBOAT_TELEGRAM_CHAT']],
    ['generic+https://example.org/x', ['LIFEBOAT_WEBHOOK_URL']],
    ['matrix://u:p@h', ['LIFEBOAT_HEALTHCHECKS_URL']],
  ])('the notification URL %s becomes %j', async (urls, names) => {
    const { notes } = await translate(
      translateOffen,
      `services:
  backup:
    image: offen/docker-volume-backup:v2
    environment: { BACKUP_RETENTION_DAYS: "14", NOTIFICATION_URLS: "${urls}" }
    volumes: ["media:/backup/media:ro"]
`,
    );
    const own = notes.filter((note) => note.startsWith('NOTIFICATION_URLS'));
    expect(own).toHaveLength(names.length);
    for (const [i, name] of names.entries()) expect(own[i]).toContain(name);
  });

  test.each([
    ['', 'true', true],
    ['', 'false', false],
    ['BACKUP_STOP_DURING_BACKUP_LABEL: shop,', 'shop', true],
    ['BACKUP_STOP_DURING_BACKUP_LABEL: shop,', 'true', false],
  ])('with "%s", a service with the value %s stops: %s', async (env, value, stops) => {
    const { labels } = await translate(
      translateOffen,
      `services:
  web:
    image: x
    volumes: ["media:/m", "home:/home"]
    labels: { docker-volume-backup.stop-during-backup: "${value}" }
  backup:
    image: offen/docker-volume-backup:v2
    environment: { ${env} BACKUP_RETENTION_DAYS: "14" }
    volumes: ["media:/backup/media:ro", "home:/backup/home:ro"]
`,
    );
    // A volume above the data directories of Postgres is no database.
    expect(labels.web).toEqual({ 'lifeboat.volumes': 'media,home', ...(stops ? { 'lifeboat.stop': 'true' } : {}) });
  });

  test('without a container of it, labels still have a meaning', async () => {
    const { labels, notes } = await translate(
      translateOffen,
      'services:\n  web:\n    image: x\n    labels: ["docker-volume-backup.exec-pre=./off"]\n',
    );
    expect(labels).toEqual({ web: { 'lifeboat.exec.pre': './off' } });
    expect(notes[0]).toContain('No container of offen/docker-volume-backup');
  });
});

describe('stack-back', () => {
  const service = (env: string, labels: string) => `services:
  db:
    image: postgres:17
    volumes: [pg:/var/lib/postgresql/data]
    labels: { stack-back.postgres: ${labels.includes('no-db') ? 'false' : 'true'} }
  web:
    image: example/web
    volumes: ["media:/srv/media", "/srv/files:/srv/files", "/etc/localtime:/etc/localtime:ro"]
    labels: { ${labels.replace('no-db', '')} }
  backup:
    image: ghcr.io/lawndoc/stack-back:1
    environment: { RESTIC_PASSWORD: canary, ${env} }
    volumes: [cache:/cache]
`;

  test.each([
    ['stack-back.volumes: true', '', 'media,/srv/files'],
    ['stack-back.volumes: true, stack-back.volumes.exclude: files', '', 'media'],
    ['stack-back.volumes: true, stack-back.volumes.include: "files,nope"', '', '/srv/files'],
    ['restic-compose-backup.volumes: true', 'EXCLUDE_BIND_MOUNTS: 1', 'media'],
    ['stack-back.volumes: true', 'EXCLUDE_BIND_MOUNTS: "false"', 'media,/srv/files'],
    ['', 'AUTO_BACKUP_ALL: True', 'media,/srv/files'],
    ['stack-back.volumes: False', 'AUTO_BACKUP_ALL: True', undefined],
    ['', '', undefined],
  ])('%s with %s', async (labels, env, expected) => {
    const found = await translate(translateStackBack, service(`RESTIC_REPOSITORY: /restic_data, ${env}`, labels));
    expect(found.labels.db).toEqual({ 'lifeboat.postgres': 'true' });
    expect(found.labels.web?.['lifeboat.volumes']).toBe(expected);
    expect(found.labels.backup).toBeUndefined();
  });

  test('servers of MySQL that stack-back dumps by itself stop, and mounts that are only read are named', async () => {
    const { labels, notes } = await translate(
      translateStackBack,
      `services:
  maria: { image: "mariadb:11", volumes: ["maria:/var/lib/mysql"] }
  refused: { image: "mysql:9", volumes: ["mysql:/var/lib/mysql"], labels: { stack-back.mysql: "false" } }
  web: { image: x, volumes: ["media:/m", "shared:/s:ro"] }
  backup: { image: x, environment: { RESTIC_REPOSITORY: /r, AUTO_BACKUP_ALL: "true" } }
`,
    );
    expect(labels).toEqual({
      maria: { 'lifeboat.volumes': 'maria', 'lifeboat.stop': 'true' },
      refused: { 'lifeboat.volumes': 'mysql' },
      web: { 'lifeboat.volumes': 'media' },
    });
    expect(notes.join('\n')).toContain('maria: Lifeboat makes no dumps of MySQL and MariaDB');
    expect(notes.join('\n')).toContain('web only reads shared.');
  });

  test('reports go to the same channels', async () => {
    const { notes } = await translate(
      translateStackBack,
      `services:
  backup:
    image: ghcr.io/lawndoc/stack-back:1
    environment: { RESTIC_REPOSITORY: /r, DISCORD_WEBHOOK: "https://canary", EMAIL_HOST: mail.example.org }
`,
    );
    const text = notes.join('\n');
    for (const name of ['LIFEBOAT_DISCORD_WEBHOOK_URL', 'LIFEBOAT_SMTP_URL', 'LIFEBOAT_EMAIL_TO']) {
      expect(text).toContain(name);
    }
    expect(text).not.toContain('canary');
  });

  test('settings, and the server of another database', async () => {
    const text = `${service(
      'RESTIC_REPOSITORY: "s3:s3.us-east-1.amazonaws.com/acme", CRON_SCHEDULE: "0 1 * * *", RESTIC_KEEP_DAILY: 10, RESTIC_KEEP_YEARLY: 0',
      'stack-back.volumes: true, stack-back.volumes.stop-during-backup: true, no-db',
    )}  mysql:\n    image: mysql:9\n    labels: { stack-back.mysql: true }\n    volumes: ["mysql:/var/lib/mysql"]\n`;
    const { labels, settings, translation } = await translate(translateStackBack, text);
    expect(labels).toEqual({
      web: { 'lifeboat.volumes': 'media,/srv/files', 'lifeboat.stop': 'true' },
      mysql: { 'lifeboat.volumes': 'mysql', 'lifeboat.stop': 'true' },
    });
    expect(settings).toEqual({
      LIFEBOAT_SCHEDULE: '0 1 * * *',
      LIFEBOAT_KEEP: '10d 4w 12m',
      LIFEBOAT_DESTINATION: 's3://acme/lifeboat?region=us-east-1',
    });
    expect(renderTranslation(translation)).not.toContain('canary');
  });
});
