import { errorInfo, type LifeboatError, toLifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { CopyPlace } from '../copy/copy.ts';
import type { Destination } from '../destinations/destination.ts';
import type { State } from '../run/state.ts';
import type { RepositoryInfo } from '../store/objects/manifest.ts';
import type { Repository } from '../store/repository/repository.ts';
import { type Acceptance, acceptInfo, type RepositoryOptions } from '../store/repository/repository-info.ts';

/** How the agent's own repository is opened. */
interface OwnRepositoryDeps {
  /** the destination as the settings name it */
  at: string;
  destination: Destination;
  project: string;
  state: Pick<State, 'repository' | 'saveRepository' | 'chain' | 'saveChain'>;
  log: Log;
  /** why nothing can be kept there, by what is mounted */
  mistaken(): LifeboatError | undefined;
  openAt(
    at: string,
    destination: Destination,
    options: Omit<RepositoryOptions, 'keys' | 'signingKeys'>,
  ): Promise<Repository>;
}

/** The agent's own repository. It is always the one that the agent remembers: an empty or a swapped disk is never taken for it. */
export interface OwnRepository {
  /** Opens it; the first one that is found, or made with `create`, is remembered. Throws like openRepository. */
  open(options: { create: boolean }): Promise<Repository>;
  /** Opens the destination as a copy of another repository, which it becomes if it is empty, and is from then on. */
  openAsCopy: CopyPlace['open'];
  /** To look at it only. Neither member before the first backup has made it; `error`: why it cannot be used. */
  look(): Promise<{ repository?: Repository; error?: LifeboatError }>;
  /** Takes the destination as it is from now on; to be called with the lock held. Throws as {@link acceptInfo}, DEST_NOT_MOUNTED. */
  accept(): Promise<{ info: RepositoryInfo; how: Acceptance }>;
}

export function ownRepository(deps: OwnRepositoryDeps): OwnRepository {
  const { at, destination, project, state, log, openAt } = deps;
  const remember = async (info: RepositoryInfo) => {
    const known = await state.repository();
    if (known?.info?.id === info.id && known.name === destination.name) return;
    // A full spool keeps nobody from looking or restoring; the next call tries again.
    await state
      .saveRepository({ info, name: destination.name })
      .catch((error: unknown) => log.warn('which repository this is could not be kept', { ...errorInfo(error) }));
  };
  const open: OwnRepository['open'] = async ({ create }) => {
    const known = await state.repository();
    const seen = () => state.chain(project);
    const repository = await openAt(at, destination, { project, create, seen, ...(known ? { known } : {}) });
    await remember(repository.info);
    return repository;
  };
  return {
    open,
    async openAsCopy(main, options) {
      const repository = await openAt(at, destination, { project: main.project, copyOf: main.info, ...options });
      await remember(repository.info);
      return repository;
    },
    async look() {
      try {
        return { repository: await open({ create: false }) };
      } catch (error) {
        const problem = toLifeboatError(error);
        if (problem.code !== 'DEST_FOREIGN' || (await state.repository())) return { error: problem };
        for await (const _ of destination.list('')) return { error: problem };
        return {};
      }
    },
    async accept() {
      const mistaken = deps.mistaken();
      if (mistaken) throw mistaken;
      const accepted = await acceptInfo(destination, { project, known: await state.repository() });
      await state.saveRepository({ info: accepted.info, name: destination.name });
      await state.saveChain(project, undefined);
      return accepted;
    },
  };
}
