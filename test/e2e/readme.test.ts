import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ok, sh } from '../harness/stack.ts';

/** Does what README.md says first: saves its Compose file, and types its commands. */
const IMAGE = process.env.LIFEBOAT_TEST_IMAGE ?? 'lifeboat:test';
const project = `lbt-readme-${process.pid}`;
let directory: string;
let commands: string[];

/** The reader's own application. */
const WEB = { services: { web: { image: 'node:24-trixie-slim', command: ['sleep', '86400'], init: true } } };

async function run(line: string): Promise<string> {
  const compose = `docker compose --project-name ${project} --progress quiet`;
  const prepared = line.replace('docker compose', compose).replace(' exec ', ' exec --no-TTY ');
  return ok('bash', ['-ec', prepared.replace(' up -d', ' up -d --wait')], { cwd: directory });
}

beforeAll(async () => {
  const page = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
  const [, yaml = '', rest = ''] = /```yaml\n([\s\S]*?)```([\s\S]*)/.exec(page) ?? [];
  const [first = ''] = rest.split(/^Lifeboat uses these words/m);
  commands = [...first.matchAll(/^ {4}(docker compose .*?)(?: {2,}#.*)?$/gm)].map(([, line = '']) => line);
  directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-readme-'));
  const socket = (process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock').replace('unix://', '');
  const mine = yaml.replace('lifeboat:latest', IMAGE).replace('- /var/run/docker.sock:', `- ${socket}:`);
  await writeFile(path.join(directory, 'compose.yml'), mine);
  await writeFile(path.join(directory, 'compose.override.yml'), JSON.stringify(WEB));
  await writeFile(path.join(directory, '.env'), 'POSTGRES_PASSWORD=canary-readme\n');
});
afterAll(async () => {
  const down = ['compose', '--project-name', project, '--progress', 'quiet', 'down', '--volumes', '--timeout', '2'];
  await sh('docker', down, { cwd: directory });
  await rm(directory, { recursive: true, force: true });
});

it('starts, shows a plan without problems, and backs up', async () => {
  expect(commands.map((line) => line.split(' ').at(-1))).toEqual(['-d', 'plan', 'backup']);
  const [up = '', plan = '', backup = ''] = commands;
  await run(up);
  await run('docker compose exec web sh -c "echo hello > /app/media/hello.txt"');
  await run(plan);
  const { problems, sources } = JSON.parse(await run(`${plan} --json`)) as {
    problems: unknown[];
    sources: { name: string }[];
  };
  expect(problems).toEqual([]);
  expect(sources.map(({ name }) => name)).toEqual(['config', 'db.postgres', 'web.media']);
  expect(await run(backup)).toContain('web.media');
  expect(await readdir(path.join(directory, 'backups', project, 'snapshots'))).toHaveLength(1);
});
