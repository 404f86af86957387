import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ok, sh } from '../harness/stack.ts';

/** Does what docs/getting-started.md says, with the image of the tests and without questions. */
const IMAGE = process.env.LIFEBOAT_TEST_IMAGE ?? 'lifeboat:test';
const project = `lbt-start-${process.pid}`;
let directory: string;
let page: string;

/** Returns the commands of a section of the page. */
function commands(title: string): string[] {
  const [, section = ''] = page.split(new RegExp(`^## \\d\\. ${title}.*$`, 'm'));
  const lines = section.split(/^## /m)[0]?.split('\n') ?? [];
  return lines.filter((line) => line.startsWith('    docker ')).map((line) => line.trim());
}

async function run(line: string): Promise<string> {
  const prepared = line
    .replace('lifeboat:latest', IMAGE)
    .replace('docker compose ', `docker compose --project-name ${project} --progress quiet `)
    .replace(' exec ', ' exec --no-TTY ')
    .replace('-v ./:', `-v ${directory}/unlabelled:`);
  return ok('bash', ['-ec', /lifeboat restore/.test(line) ? `${prepared} --yes` : prepared], { cwd: directory });
}

beforeAll(async () => {
  page = await readFile(new URL('../../docs/getting-started.md', import.meta.url), 'utf8');
  directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-start-'));
  const [, yaml = ''] = /```yaml\n([\s\S]*?)```/.exec(page) ?? [];
  const socket = (process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock').replace('unix://', '');
  const mine = yaml
    .replace('lifeboat:latest', IMAGE)
    // Others use the disk too.
    .replace('retries: 30', 'retries: 600')
    .replace('- /var/run/docker.sock:', `- ${socket}:`);
  await writeFile(path.join(directory, 'compose.yml'), mine);
  await mkdir(path.join(directory, 'unlabelled'));
  await writeFile(
    path.join(directory, 'unlabelled/compose.yml'),
    'services:\n  db:\n    image: postgres:17 # ours\n    volumes: [db:/var/lib/postgresql/data]\nvolumes:\n  db:\n',
  );
});
afterAll(async () => {
  const down = ['compose', '--project-name', project, '--progress', 'quiet', 'down', '--volumes', '--timeout', '2'];
  await sh('docker', down, { cwd: directory });
  await rm(directory, { recursive: true, force: true });
});

it('init in the image shows the changes to a Compose file, then writes them', async () => {
  const [show = '', write = ''] = commands('Add it').filter((line) => line.includes(' init'));
  const file = path.join(directory, 'unlabelled/compose.yml');
  const before = await readFile(file, 'utf8');
  expect(await run(show)).toContain('+      lifeboat.postgres: "true"');
  expect(await readFile(file, 'utf8')).toBe(before);
  await run(write);
  const after = await readFile(file, 'utf8');
  expect(after).toContain('image: postgres:17 # ours');
  await ok('docker', ['compose', '--file', file, 'config', '--quiet']);
});

it('backs up, loses a table, and restores it', async () => {
  for (const line of commands('Add it').filter((one) => one.startsWith('docker compose'))) await run(line);
  for (const line of commands('Look at')) await run(line);
  const lines = commands('Lose');
  expect(lines).toHaveLength(3);
  for (const line of lines.slice(0, -1)) await run(line);
  expect(await run(lines.at(-1) ?? '')).toContain('a boat');
});
