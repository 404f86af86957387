import { describe, expect, test } from 'vitest';
import { readComposeProject } from '../../src/setup/compose-files.ts';
import { translateOffen } from '../../src/setup/offen.ts';
import { servicesOf } from '../../src/setup/services.ts';
import { withFiles } from './files.ts';

async function translate(text: string) {
  const directory = await withFiles({ 'compose.yml': text });
  const project = await readComposeProject(directory, [], {});
  const found = translateOffen(servicesOf(project, () => undefined).map(({ container }) => container));
  return { ...found, labels: Object.fromEntries(found.labels), text: found.notes.join('\n') };
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
