import { copyFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { farAway, ok, sh } from '../harness/stack.ts';

/** Uses compose.example.yml like a user: copied to docker-compose.yml, with an .env file and no other preparation. */
const project = `lbt-example-${process.pid}`;
let directory: string;

/** Replacements on a test machine: another tag, and an available image for `web`. */
const OVERRIDE = {
  services: {
    lifeboat: {
      image: process.env.LIFEBOAT_TEST_IMAGE ?? 'lifeboat:test',
      healthcheck: { interval: '1s', retries: 600 },
      environment: { LIFEBOAT_SCHEDULE: farAway() },
    },
    db: { healthcheck: { test: ['CMD', 'pg_isready', '-h', '127.0.0.1', '-U', 'shop'], interval: '1s', retries: 600 } },
    web: { image: 'node:24-trixie-slim', command: ['sleep', '86400'], init: true },
  },
};

function compose(...args: string[]) {
  const files = ['--file', 'docker-compose.yml', '--file', 'override.json'];
  return ['compose', '--progress', 'quiet', '--project-name', project, ...files, ...args];
}

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-example-'));
  await copyFile(new URL('../../compose.example.yml', import.meta.url), path.join(directory, 'docker-compose.yml'));
  const socket = (process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock').replace('unix://', '');
  await writeFile(path.join(directory, '.env'), `POSTGRES_PASSWORD=canary-example\nDOCKER_SOCKET=${socket}\n`);
  await writeFile(path.join(directory, 'override.json'), JSON.stringify(OVERRIDE));
  await ok('docker', compose('up', '--detach', '--wait', '--wait-timeout', '280'), { cwd: directory });
});
afterAll(async () => {
  await sh('docker', compose('down', '--volumes', '--timeout', '2'), { cwd: directory });
  await rm(directory, { recursive: true, force: true });
});

it('runs from an image of less than 200 MB', async () => {
  const size = await ok('docker', ['image', 'inspect', '--format', '{{.Size}}', OVERRIDE.services.lifeboat.image]);
  expect(Number(size)).toBeLessThan(200_000_000);
});

it('parses without other files', async () => {
  await ok('docker', ['compose', '--file', 'docker-compose.yml', 'config', '--quiet'], { cwd: directory });
  const hardened = fileURLToPath(new URL('../../docker/compose.hardened.yml', import.meta.url));
  const config = ['compose', '--file', hardened, 'config', '--quiet'];
  // No group is right on most hosts, so there is no default.
  expect((await sh('docker', config, { cwd: directory })).stderr).toContain('stat -c %g /var/run/docker.sock');
  await ok('env', ['DOCKER_GID=999', 'docker', ...config], { cwd: directory });
});

it('plans the database, the volume and the configuration, without a problem', async () => {
  const plan = JSON.parse(
    await ok('docker', compose('exec', '--no-TTY', 'lifeboat', 'lifeboat', 'plan', '--json'), { cwd: directory }),
  ) as { sources: { name: string }[]; problems: unknown[]; notes: unknown[] };
  expect(plan.problems).toEqual([]);
  expect(plan.notes).toContainEqual({
    ...{ subject: 'config', message: 'leaves out backups (the backups), restored (mounted at /restored)' },
  });
  expect(plan.sources.map(({ name }) => name)).toEqual(['config', 'db.postgres', 'web.media']);
});

it('backs everything up, and restores the configuration', async () => {
  const inWeb = ['web', 'sh', '-c', 'echo hello > /usr/share/nginx/html/media/hello.txt'];
  await ok('docker', compose('exec', '--no-TTY', ...inWeb), { cwd: directory });
  const lifeboat = (...args: string[]) =>
    ok('docker', compose('exec', '--no-TTY', 'lifeboat', 'lifeboat', ...args), { cwd: directory });
  await lifeboat('backup');
  await lifeboat('restore', 'latest', 'config', '--to-directory', '/restored/config');
  await ok('diff', ['docker-compose.yml', 'restored/config/docker-compose.yml'], { cwd: directory });
  await ok('diff', ['.env', 'restored/config/.env'], { cwd: directory });
  expect((await readdir(path.join(directory, 'restored/config'))).sort()).toEqual([
    ...['.env', 'docker-compose.yml', 'override.json'],
  ]);
});
