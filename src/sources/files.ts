import type { FilesSource } from '../plan/model.ts';
import type { Source } from './source.ts';

/** Files mounted into the agent itself (`/config`) as a source. Loading is the store's extraction into a directory. */
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
