import { errorInfo, type LifeboatError, toLifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { CopyPlace } from '../copy/context.ts';
import type { Destination } from '../destinations/destination.ts';
import type { State } from '../run/state.ts';
import type { RepositoryInfo } from '../store/objects/manifest.ts';
import type { Repository } from '../store/repository/repository.ts';
import { type Acceptance, acceptInfo, type RepositoryOptions } from '../store/repository/repository-info.ts';
import { highestSequence } from '../store/repository/seen-chain.ts';

/** The dependencies of the agent's own repository. */
interface OwnRepositoryDeps {
  /** the destination as the settings name it */
  at: string;
  destination: Destination;
  project: string;
  state: Pick<State, 'repository' | 'saveRepository' | 'chain' | 'saveChain' | 'saveAbandoned'>;
  log: Log;
  /** why nothing can be stored there, judged by the mounts */
  mistaken(): LifeboatError | undefined;
  openAt(
    at: string,
    destination: Destination,
    options: Omit<RepositoryOptions, 'keys' | 'signingKeys'>,
  ): Promise<Repository>;
}

/** The agent's own repository. It must be the one that the agent remembers: an empty or exchanged disk is refused. */
export interface OwnRepository {
  /** Opens it. Remembers the first repository that is found, or created with `create`. Throws like openRepository. */
  open(options: { create: boolean }): Promise<Repository>;
  /** Opens the destination as a copy of another repository. An empty destination becomes one, and stays one. */
  openAsCopy: CopyPlace['open'];
  /** Opens it for reading. Has neither member before the first backup creates it. `error`: why it cannot be used. */
  look(): Promise<{ repository?: Repository; error?: LifeboatError }>;
  /**
   * Accepts the present content of the destination. The caller has the lock. Throws like {@link acceptInfo}, and
   * DEST_NOT_MOUNTED.
   */
  accept(): Promise<{ info: RepositoryInfo; how: Acceptance }>;
}

export function ownRepository(deps: OwnRepositoryDeps): OwnRepository {
  const { at, destination, project, state, log, openAt } = deps;
  const remember = async (info: RepositoryInfo) => {
    const known = await state.repository();
    if (known?.info?.id === info.id && known.name === destination.name) return;
    // A full spool must not prevent looking or restoring. The next call tries again.
    await state
      .saveRepository({ info, name: destination.name })
      .catch((error: unknown) => log.warn('the id of the repository could not be remembered', { ...errorInfo(error) }));
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
      const known = await state.repository();
      const seen = (await state.chain(project)) ?? [];
      const accepted = await acceptInfo(destination, { project, known });
      await state.saveRepository({ info: accepted.info, name: destination.name });
      if (known?.info?.id === accepted.info.id) {
        // Copies may have these snapshots. A new one must not get the sequence of one of them.
        await state.saveAbandoned(project, highestSequence(seen));
      }
      await state.saveChain(project, undefined);
      return accepted;
    },
  };
}
