import type { RunContext } from '../backup/context.ts';
import { keptDatabases } from '../kept/databases.ts';
import { volumePlace } from '../kept/volume-place.ts';
import { checkWhole } from '../kept/volumes.ts';
import type { PlannedSource } from '../plan/model.ts';
import { createFilesSource } from '../sources/files.ts';
import { createBaseSource } from '../sources/postgres/base-source.ts';
import { createPostgresSource } from '../sources/postgres/postgres-source.ts';
import type { Source } from '../sources/source.ts';
import { createVolumeSource } from '../sources/volume.ts';
import type { Environment } from './environment.ts';

/** Creates a planned source for a run. */
export function makeSource(
  { agent, self, state, journals }: Environment,
  planned: PlannedSource,
  context: RunContext,
): Source {
  const recordHelper = (name: string) => context.journal.record({ type: 'helper', name });
  if (planned.kind === 'postgres') {
    const alongsideRun = context.run.trigger === 'safety';
    return createPostgresSource({
      ...{ agent, planned, recordHelper, alongsideRun },
      putAside: (listed) => keptDatabases(state, planned.name, listed),
    });
  }
  if (planned.kind === 'base') return createBaseSource({ agent, planned, recordHelper });
  if (planned.kind === 'volume') {
    const { mounts } = self.facts;
    const source = createVolumeSource(planned, mounts);
    return {
      ...source,
      async capture(capturing, store) {
        await checkWhole(journals, context.journal.file, volumePlace(planned.mount, mounts));
        return source.capture(capturing, store);
      },
    };
  }
  return createFilesSource(planned, self.facts.mounts);
}
