import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll } from 'vitest';

const directories: string[] = [];
afterAll(() => Promise.all(directories.map((one) => rm(one, { recursive: true, force: true }))));

/** Makes a directory with files, and removes it after the tests of the file. */
export async function withFiles(files: Record<string, string>): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-setup-'));
  directories.push(directory);
  for (const [name, text] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(directory, name)), { recursive: true });
    await writeFile(path.join(directory, name), text);
  }
  return directory;
}
