import { hasCode, LifeboatError } from '../../base/errors.ts';
import { streamOf } from '../objects/objects.ts';
import { encodePage, logPrefix, pageHash, pageKey, parsePageKey, type WalPage, walPrefix } from './page.ts';
import { readPage, type WalRepository } from './read-log.ts';

/**
 * Stores a revision of a page. The agent of the page is its `home`. {@link refuseOvertaken} then says whether this
 * agent is the only writer.
 *
 * @returns the hash of the stored page
 * @throws LOCKED if another agent has stored this revision; DEST_EXISTS if there is another revision of this agent
 *   than its caller knows: it must read the log again
 */
export async function putPage(repository: WalRepository, page: WalPage): Promise<string> {
  const bytes = encodePage(repository.signing.sign('wal', page) as WalPage);
  let hash = pageHash(bytes);
  try {
    await repository.destination.put(pageKey(page, page), streamOf(bytes));
  } catch (error) {
    if (!hasCode(error, 'DEST_EXISTS')) throw error;
    hash = await adopt(repository, page, error);
  }
  return hash;
}

/**
 * Looks at a revision that exists already. An earlier attempt whose answer was lost may have stored it: then it is
 * accepted. A revision of this agent with another content is no such attempt: it may be that of a clone of this
 * machine, whose spool has the same memory.
 *
 * @returns its hash
 */
async function adopt(repository: WalRepository, page: WalPage, cause: LifeboatError): Promise<string> {
  const found = await readPage(repository, page, page);
  const { signature } = found.page;
  const same = { ...page, ...(signature ? { signature } : {}) };
  if (!encodePage(found.page).equals(encodePage(same))) refuse(found.page, page, cause);
  return found.hash;
}

/**
 * Looks for later pages and revisions than the stored one. Another agent that has written several has removed the one
 * that this agent has written now. Throws like {@link putPage}.
 */
export async function refuseOvertaken(repository: WalRepository, own: WalPage): Promise<void> {
  const prefix = walPrefix(own);
  // Where nothing may be deleted, all earlier revisions are still there.
  const options = { fresh: true, after: pageKey(own, own) };
  for await (const { key } of repository.destination.list(logPrefix(own), options)) {
    const found = parsePageKey(key.slice(prefix.length));
    const isLater = found && (found.page > own.page || (found.page === own.page && found.revision > own.revision));
    if (!isLater) continue;
    const read = await readPage(repository, own, found).catch((cause: unknown) => {
      throw unknown(found, own, cause);
    });
    refuse(read.page, own);
  }
}

/** Refuses a revision that the caller has not written. `cause`: why that is known */
function refuse(found: WalPage, own: WalPage, cause?: LifeboatError): never {
  if (found.home === own.home) throw unknown(found, own, cause);
  throw new LifeboatError('LOCKED', `another Lifeboat receives the WAL of ${own.source}`, {
    hint: 'Let only one of them back up this database. This one stores no more WAL of it until it is restarted.',
  });
}

function unknown({ page, revision }: Pick<WalPage, 'page' | 'revision'>, { source }: WalPage, cause: unknown) {
  const what = `page ${page}, revision ${revision} of the WAL log of ${source} is not known here`;
  return new LifeboatError('DEST_EXISTS', what, { cause });
}
