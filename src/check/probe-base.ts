import { unlessAborted } from '../base/abort.ts';
import type { BaseSource } from '../plan/model.ts';
import { formatDuration } from '../report/format.ts';
import type { Probed } from '../report/terminal/listing.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import {
  archiveProblem,
  readReplicationFacts,
  replicationProblem,
  tryReplication,
} from '../sources/postgres/wal/replication.ts';
import { IS_LIFEBOAT_SLOT } from '../sources/postgres/wal/slot.ts';

/**
 * Checks that a server allows base backups and the reception of its WAL.
 *
 * @throws PG_REPLICATION with the line that repairs it
 */
export async function probeBase(source: BaseSource, open: () => Promise<Tools>, signal: AbortSignal): Promise<Probed> {
  const tools = await open();
  try {
    const look = async () => {
      const control = await tools.control();
      const { slots } = await control.one<{ slots: string }>(
        `SELECT count(*)::text AS slots FROM pg_replication_slots WHERE ${IS_LIFEBOAT_SLOT} AND active`,
      );
      const facts = await readReplicationFacts(control);
      const problem = replicationProblem(facts, slots !== '0') ?? archiveProblem(facts);
      if (problem) throw problem;
      await tryReplication(tools, signal);
      return control.one<{ size: string }>('SELECT sum(pg_database_size(oid))::text AS size FROM pg_database');
    };
    const { size } = await unlessAborted(look(), signal);
    const what = `base backups and WAL of ${source.server} · window ${formatDuration(source.windowMs)}`;
    return { what, size: Number(size) };
  } finally {
    await tools.close();
  }
}
