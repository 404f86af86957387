import { readdirSync } from 'node:fs';
import path from 'node:path';

const ROOT = path.join(import.meta.dirname, '../..');

/** All files that people read, relative to the project. */
export function documents(): string[] {
  const below = (folder: string) =>
    readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map((name) => path.join(folder, name));
  const top = readdirSync(ROOT);
  return [...top, ...below('docs'), ...below('.github')].filter((name) => /\.(md|ya?ml)$/.test(name));
}
