import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { constants, createWriteStream } from 'node:fs';
import { type FileHandle, link, lstat, open, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { hasErrno, LifeboatError } from '../base/errors.ts';
import type { Mount } from '../plan/model.ts';
import { checkTargetDirectory } from '../restore/directory.ts';
import type { ArchiveOutput } from '../store/archive/archive-writer.ts';

/** Where an archive goes. */
export interface ExportTarget extends ArchiveOutput {
  /** Gives the complete and durable archive its name. */
  commit(): Promise<void>;
  /** Removes everything that was written. Never rejects. */
  discard(): Promise<void>;
}

/** The file to write, and the places in the agent where no file may be written. */
export interface FileTarget {
  /** absolute */
  file: string;
  overwrite: boolean;
  mounts: readonly Mount[];
  /** the agent's own directories, each with its content in words */
  kept: readonly { directory: string; holds: string }[];
  /** the directory of the repository; files are allowed directly in it */
  repository?: string;
}

/**
 * Opens a file in the agent's container. It is written under a temporary name in the same directory, synced, and
 * renamed at the end, so a file with the final name is always complete. Without `overwrite`, an existing file stays,
 * even one that appears meanwhile. Removes what killed exports to that file left, once it is 15 minutes old.
 *
 * @throws TREE_TARGET_REFUSED, FILE_EXISTS, TREE_TARGET_FULL
 */
export async function openFileTarget(target: FileTarget): Promise<ExportTarget> {
  const { file, overwrite } = target;
  const directory = path.dirname(file);
  await checkPlace(target, directory);
  await checkName(target);
  const name = path.basename(file);
  // The hash tells long names apart.
  const stem = `.${name.slice(0, 40)}.${createHash('sha256').update(name).digest('hex').slice(0, 8)}.`;
  const temporary = path.join(directory, `${stem}${randomBytes(4).toString('hex')}.part`);
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const handle = await open(temporary, flags, 0o600).catch((error: unknown) => {
    throw fileError(error, directory);
  });
  await removeLeft(directory, stem, handle);
  const output = createWriteStream('', { fd: handle, autoClose: false });
  // The writer of the archive handles errors. An earlier or later one must not end the process.
  output.on('error', () => undefined);
  const close = async () => {
    output.destroy();
    await handle.close().catch(() => undefined);
  };
  return {
    output,
    explain: (error) => fileError(error, directory),
    async commit() {
      try {
        if (!output.writableFinished) {
          output.end();
          await once(output, 'finish');
        }
        await handle.sync();
        await close();
        await giveName(temporary, file, overwrite);
        await syncDirectory(directory);
      } catch (error) {
        throw fileError(error, directory);
      }
    },
    async discard() {
      await close();
      await rm(temporary, { force: true }).catch(() => undefined);
    },
  };
}

/** Longer than an export that runs goes without writing. */
const LEFT_MS = 15 * 60_000;

/**
 * Removes files that may fill the disk that the new archive needs, but none of an export that runs.
 *
 * @param opened a new file: its time is that of the file system, whose clock may be another one
 */
async function removeLeft(directory: string, stem: string, opened: FileHandle): Promise<void> {
  const names = await readdir(directory).catch(() => []);
  const left = names.filter((name) => name.startsWith(stem) && /^[0-9a-f]{8}\.part$/.test(name.slice(stem.length)));
  const now = (await opened.stat().catch(() => undefined))?.mtimeMs ?? 0;
  for (const name of left) {
    const file = path.join(directory, name);
    const found = await lstat(file).catch(() => undefined);
    if (found && now - found.mtimeMs > LEFT_MS) await rm(file, { force: true }).catch(() => undefined);
  }
}

async function checkPlace({ repository, mounts, kept }: FileTarget, directory: string): Promise<void> {
  const there = await stat(directory).catch(() => undefined);
  if (!there?.isDirectory()) {
    throw new LifeboatError('TREE_TARGET_REFUSED', `there is no directory ${directory} in the Lifeboat container`, {
      hint: 'Take a directory that is mounted into the Lifeboat service.',
    });
  }
  const atTop = repository !== undefined && path.resolve(directory) === path.resolve(repository);
  await checkTargetDirectory(directory, mounts, atTop ? kept.filter((one) => one.directory !== repository) : kept);
}

/** Names at the top of a repository that are not free to use. */
const OF_REPOSITORY = /^(lifeboat\.json|\..*)$/;

async function checkName({ file, overwrite, repository }: FileTarget): Promise<void> {
  const name = path.basename(file);
  if (
    repository !== undefined &&
    path.dirname(path.resolve(file)) === path.resolve(repository) &&
    OF_REPOSITORY.test(name)
  ) {
    throw new LifeboatError('TREE_TARGET_REFUSED', `${file} is a name that the repository uses`, {
      hint: 'Choose another name.',
    });
  }
  const there = await lstat(file).catch(() => undefined);
  if (!there) return;
  if (overwrite && there.isFile()) return;
  throw exists(file, there.isFile());
}

function exists(file: string, isFile = true): LifeboatError {
  return new LifeboatError('FILE_EXISTS', `${file} exists`, {
    hint: isFile
      ? 'Choose another name, or replace it with --overwrite.'
      : 'It is not a plain file: choose another name.',
  });
}

/** Never replaces a file that nobody agreed to. */
async function giveName(temporary: string, file: string, overwrite: boolean): Promise<void> {
  if (overwrite) return rename(temporary, file);
  try {
    await link(temporary, file);
    await rm(temporary, { force: true });
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) throw exists(file);
    if (!hasErrno(error, 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'EMLINK', 'ENOSYS')) throw error;
    // A file system without hard links.
    if (await lstat(file).catch(() => undefined)) throw exists(file);
    await rename(temporary, file);
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await handle.sync();
  } catch (error) {
    // Some network file systems cannot sync a directory.
    if (!hasErrno(error, 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP')) throw error;
  } finally {
    await handle.close();
  }
}

/** Turns an error of the disk into one with a code. */
function fileError(error: unknown, directory: string): unknown {
  if (hasErrno(error, 'ENOSPC', 'EDQUOT')) {
    return new LifeboatError('TREE_TARGET_FULL', `${directory} has no space left for the archive`, {
      cause: error,
      hint: 'Make room there, or write to another place; nothing was left behind.',
    });
  }
  if (hasErrno(error, 'EACCES', 'EPERM', 'EROFS', 'ENOENT', 'ENAMETOOLONG', 'EFBIG')) {
    return new LifeboatError('TREE_TARGET_REFUSED', `the archive cannot be written in ${directory}`, { cause: error });
  }
  return error;
}

/**
 * The process's own output: nothing is left to commit. It is not ended, since more may be written to it.
 *
 * @throws USAGE where it is a terminal
 */
export function stdoutTarget(stdout: NodeJS.WriteStream): ExportTarget {
  if (stdout.isTTY) {
    throw new LifeboatError('USAGE', 'an archive is not for a terminal', {
      hint: 'Send it to a file: `docker compose exec -T lifeboat lifeboat export … > media.zip`. Without -T, exec makes a terminal. Or write it in the container with --to FILE.',
    });
  }
  return { output: stdout, explain: outputError, commit: async () => undefined, discard: async () => undefined };
}

function outputError(cause: unknown): LifeboatError {
  const ended = hasErrno(cause, 'EPIPE');
  const what = ended ? 'what reads the archive has ended' : 'the archive cannot be written to stdout';
  return new LifeboatError('OUTPUT_FAILED', what, { cause, hint: 'The output is not complete: export again.' });
}
