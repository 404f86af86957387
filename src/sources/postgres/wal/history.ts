import { type Ancestor, parseHistory } from '../../../store/wal/timelines.ts';
import { databaseArgument } from '../server/commands.ts';
import type { Session } from '../server/session.ts';
import type { Tools } from '../server/tools.ts';

/** Sends a command of the replication protocol, which any role that may replicate can send. */
export const COMMAND_SCRIPT =
  'exec psql --no-psqlrc --no-password --tuples-only --no-align --command="$1" "$0 replication=true"';

/** Returns the argument of {@link COMMAND_SCRIPT} that says how to connect. */
export function replicationArgument({ connection, database }: Pick<Tools, 'connection' | 'database'>): string {
  return databaseArgument(connection, database).replace(/^--dbname=/, '');
}

/**
 * Returns the ancestors of a timeline of the server (Postgres docs, 53.4, TIMELINE_HISTORY).
 *
 * @throws EXEC_FAILED if the server has no history file of that timeline; OBJECT_DAMAGED
 */
export async function readHistory(tools: Tools, timeline: number, signal: AbortSignal): Promise<Ancestor[]> {
  const command = `TIMELINE_HISTORY ${timeline}`;
  const answer = await tools.run(['sh', '-c', COMMAND_SCRIPT, replicationArgument(tools), command], signal);
  // The name of the file, and its content.
  return parseHistory(answer.slice(answer.indexOf('|') + 1));
}

/** Returns whether the server still has a segment of WAL, as files of it. */
export async function hasSegment(session: Session, name: string): Promise<boolean> {
  const row = await session.one<{ found: string }>(
    'SELECT (count(*) > 0)::text AS found FROM pg_ls_waldir() WHERE name = $1',
    [name],
  );
  return row.found === 'true';
}
