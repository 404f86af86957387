import { LifeboatError } from '../base/errors.ts';
import type { ProgressSink } from '../report/events.ts';
import { appendJournal } from '../run/journal.ts';
import { spoolError } from '../run/spool.ts';
import type { TarTree } from '../sources/source.ts';
import { readTar } from '../store/archive/read-tar.ts';
import type { StoredTree } from '../store/content/stored-tree.ts';
import { isSafePath } from '../store/filesystem/path.ts';
import type { StoreJob } from './job.ts';
import { storeMembers, type TreeMember } from './store-members.ts';
import type { JobRepository } from './volume-job.ts';

/**
 * Stores a tree that arrives as a tar, without a copy of it on the disk.
 *
 * @throws PG_BASE_FAILED for a tar that is cut or holds something else than files and directories; what `tar` throws
 */
export function storeTar(
  tar: TarTree,
  { journal, indexPath, previous, known, source, project }: Omit<StoreJob, 'kind' | 'root' | 'include' | 'exclude'>,
  repository: JobRepository,
  { signal, progress }: { signal: AbortSignal; progress: ProgressSink },
): Promise<StoredTree> {
  return tar.read((stream) =>
    storeMembers({
      members: membersOf(readTar(stream), tar),
      ...{ project, source, indexPath, signal },
      ...(previous ? { previous } : {}),
      ...(known ? { known } : {}),
      ...repository,
      recordObject: async (key) => appendJournal(journal, { type: 'object', key }),
      progress: (update) => progress({ phase: 'storing', ...update }),
    }).catch((error: unknown) => {
      throw spoolError(error);
    }),
  );
}

async function* membersOf(members: ReturnType<typeof readTar>, { seen }: TarTree): AsyncGenerator<TreeMember> {
  let owner = { uid: 0, gid: 0 };
  for await (const { name, type, target, content, mode = 0o600, uid = 0, gid = 0, mtime, size } of members) {
    const path = name.replace(/^(\.\/)+/, '').replace(/\/+$/, '');
    if (path === '' || path === '.') continue;
    if (!isSafePath(path) || (type !== 'file' && type !== 'directory' && type !== 'symlink'))
      throw new LifeboatError('PG_BASE_FAILED', `the base backup holds ${JSON.stringify(name.slice(0, 100))}`);
    const take = seen[path];
    const plain = take === undefined ? content : () => taken(content(), take);
    // The program adds such a file itself, as its own user, who is another one than that of the server.
    if (take === undefined) owner = { uid, gid };
    const meta = { path, type, mode, ...owner, mtime, size };
    yield { ...meta, ...(target === undefined ? {} : { target }), content: plain };
  }
}

/** The largest file whose content is passed on, bytes: a backup manifest has about 150 for each file. */
const MAX_SEEN = 512 * 1024 * 1024;

async function* taken(content: AsyncIterable<Buffer>, take: (content: Buffer) => void): AsyncGenerator<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of content) {
    size += chunk.length;
    if (size > MAX_SEEN) throw new LifeboatError('PG_BASE_FAILED', 'the manifest of the base backup is too large');
    chunks.push(chunk);
    yield chunk;
  }
  take(Buffer.concat(chunks));
}
