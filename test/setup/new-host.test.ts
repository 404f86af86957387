import { spawnSync } from 'node:child_process';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { restoreProjectFiles } from '../../src/restore/all/project-files.ts';
import { dataCommands, writeDataScript } from '../../src/setup/new-host.ts';
import { withFiles } from './files.ts';

const SHOP = `services:
  db: { image: "postgres:17", labels: { lifeboat.postgres: "true" } }
  web: { image: example/web, labels: { lifeboat.volumes: "true" } }
  stats: { image: "postgres:16", labels: ["lifeboat.postgres=Yes"] }
  backup: { image: "ghcr.io/example/lifeboat:0.1.0" }
`;

describe('the commands for a new host', () => {
  test('start the databases and Lifeboat, by the names in the Compose file', async () => {
    const directory = await withFiles({ 'compose.yml': SHOP });
    expect(await dataCommands(directory, { project: 'shop', snapshot: 'latest', from: 's3://b/x?region=y' })).toEqual([
      'export COMPOSE_PROJECT_NAME=shop',
      'docker compose up --detach --wait db stats backup',
      'docker compose create',
      "docker compose exec backup lifeboat restore latest --all --from 's3://b/x?region=y'",
      'docker compose up --detach',
    ]);
  });

  test('work without a readable Compose file, as far as they can', async () => {
    const directory = await withFiles({ 'compose.yml': 'services: [' });
    expect(await dataCommands(directory, { project: 'shop', snapshot: '2026' })).toEqual([
      'export COMPOSE_PROJECT_NAME=shop',
      'docker compose up --detach --wait lifeboat',
      'docker compose create',
      'docker compose exec lifeboat lifeboat restore 2026 --all',
      'docker compose up --detach',
    ]);
  });
});

describe('the script with these commands', () => {
  test('stops at the first command that fails, and runs in the project directory', async () => {
    const directory = await withFiles({});
    expect(await writeDataScript(directory, ['pwd', 'false', 'echo more'])).toBe('restore-data.sh');
    const { status, stdout } = spawnSync(path.join(directory, 'restore-data.sh'), { encoding: 'utf8', cwd: '/' });
    expect(status).toBe(1);
    expect(stdout).toBe(`${directory}\n`);
  });

  test('replaces no file, and has the next free name, which the caller learns', async () => {
    const directory = await withFiles({ 'restore-data.sh': 'of an earlier move', 'restore-data-2.sh': 'mine' });
    expect(await writeDataScript(directory, ['true'])).toBe('restore-data-3.sh');
    expect(await readFile(path.join(directory, 'restore-data.sh'), 'utf8')).toBe('of an earlier move');
    expect(await readFile(path.join(directory, 'restore-data-2.sh'), 'utf8')).toBe('mine');
    expect(await readFile(path.join(directory, 'restore-data-3.sh'), 'utf8')).toContain('\ntrue\n');
    // After an interruption, the same command names the same script.
    expect(await writeDataScript(directory, ['true'])).toBe('restore-data-3.sh');
    expect(await writeDataScript(path.join(directory, 'none'), ['true'])).toBeUndefined();
  });
});

describe('the files of a project', () => {
  const restore = (files: Record<string, string>) => async (into: string) => {
    await mkdir(into, { recursive: true });
    for (const [name, text] of Object.entries(files)) await writeFile(path.join(into, name), text);
  };

  test('come back next to the backups, and replace nothing', async () => {
    const root = await withFiles({ 'backups/lifeboat.json': '{}' });
    const { files } = await restoreProjectFiles(root, restore({ '.env': 'A=1', 'compose.yml': 'x' }));
    expect(files).toEqual(['.env', 'compose.yml']);
    expect(await readFile(path.join(root, '.env'), 'utf8')).toBe('A=1');
    await rm(path.join(root, 'compose.yml'));
    await expect(restoreProjectFiles(root, restore({ '.env': 'A=2', 'compose.yml': 'x' }))).rejects.toMatchObject({
      code: 'TREE_TARGET_NOT_EMPTY',
      message: `${root} already has .env`,
    });
    // Nothing of the second attempt stays.
    await expect(readFile(path.join(root, 'compose.yml'))).rejects.toThrow('ENOENT');
    expect(await readFile(path.join(root, '.env'), 'utf8')).toBe('A=1');
  });

  test('come back after a restore that was killed', async () => {
    const root = await withFiles({
      '.lifeboat-restored-Ab3xYz/config/.env': 'A=1',
      '.lifeboat-restored-notes/a': 'mine',
      // These had moved up.
      '.env': 'A=1',
      'secrets/key': 'k',
    });
    const all = async (into: string) => {
      await mkdir(path.join(into, 'secrets'), { recursive: true });
      await writeFile(path.join(into, 'secrets/key'), 'k');
      await restore({ '.env': 'A=1', 'compose.yml': 'x' })(into);
      return 'done';
    };
    const names = ['.env', 'compose.yml', 'secrets'];
    expect(await restoreProjectFiles(root, all)).toEqual({ files: names, result: 'done' });
    expect((await readdir(root)).sort()).toEqual(['.env', '.lifeboat-restored-notes', 'compose.yml', 'secrets']);
    await writeFile(path.join(root, 'secrets/other'), '');
    await expect(restoreProjectFiles(root, all)).rejects.toMatchObject({ message: `${root} already has secrets` });
  });
});
