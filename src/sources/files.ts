import type { FilesSource, Mount } from '../plan/model.ts';
import type { Reach, Source } from './source.ts';
import { fileMountsIn } from './volume.ts';

/**
 * Creates a source for files that are mounted into the agent itself (`/config`). A restore extracts them into a
 * directory.
 */
export function createFilesSource(planned: FilesSource, agentMounts: readonly Mount[]): Source {
  const reach: Reach = { kind: 'process' };
  const fileMounts = fileMountsIn(planned, reach, agentMounts);
  return {
    name: planned.name,
    kind: 'files',
    capture: (_context, store) =>
      store({
        root: planned.root,
        reach,
        include: [],
        exclude: planned.exclude,
        leaveOut: 'all',
        ...(fileMounts ? { fileMounts } : {}),
        facts: { kind: 'files', root: planned.root },
        summary: '',
        warnings: [],
      }),
  };
}
