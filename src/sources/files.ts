import type { FilesSource } from '../plan/model.ts';
import type { Source } from './source.ts';

/**
 * Creates a source for files that are mounted into the agent itself (`/config`). A restore extracts them into a
 * directory.
 */
export function createFilesSource(planned: FilesSource): Source {
  return {
    name: planned.name,
    kind: 'files',
    capture: (_context, store) =>
      store({
        root: planned.root,
        reach: { kind: 'process' },
        include: [],
        exclude: planned.exclude,
        leaveOut: 'all',
        facts: { kind: 'files', root: planned.root },
        summary: '',
        warnings: [],
      }),
  };
}
