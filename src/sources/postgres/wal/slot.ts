import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { LifeboatError } from '../../../base/errors.ts';
import { parseLsn } from '../../../store/wal/names.ts';
import { databaseArgument, TOOLS } from '../server/commands.ts';
import type { Session } from '../server/session.ts';
import { sqlState } from '../server/sql-state.ts';
import type { Tools } from '../server/tools.ts';

/** The state of the server's WAL and of a replication slot on it. */
export interface SlotState {
  /** absent: there is no such slot */
  slot?: {
    active: boolean;
    /** the server keeps the WAL from here on; absent for a slot that has reserved nothing */
    kept?: bigint;
    /** everything before is in the files of the receiver; absent if that is not known, see {@link readSlot} */
    received?: bigint;
    /** the receiver that is connected now has told the server how far its files reach */
    reported?: true;
    /** `reserved`, `extended`, `unreserved`, `lost`; absent before Postgres 13 */
    status?: string;
    /** bytes that the server may still write before the slot is lost; absent without max_slot_wal_keep_size */
    safe?: number;
  };
  /** the number of tablespaces that users created */
  tablespaces?: number;
  /** the position at which the server writes next */
  inserting: bigint;
  flushed: bigint;
  /** the timeline on which the server writes */
  timeline: number;
  /** by the server's clock when it read the position, ISO time */
  at: string;
}

/** Returns the name of the slot of a source: the same after each start of this agent, and of no other agent. */
export function slotName(home: string, project: string, source: string): string {
  const hash = createHash('sha256')
    .update(JSON.stringify([home, project, source]))
    .digest('hex');
  return `lifeboat_${hash.slice(0, 16)}`;
}

/**
 * Reads the state of a slot and of the WAL.
 *
 * The receiver reports what it has written for the first time after a second. Until then, only the place where the slot
 * begins is known. A file of that segment holds zeros until WAL arrives, so only the beginning of the segment counts as
 * received. Without files, the receiver starts at the beginning of that segment from Postgres 15 on, and earlier
 * versions start at the segment that the server writes, wherever the slot begins.
 */
export async function readSlot(session: Session, name: string): Promise<SlotState> {
  const isModern = session.versionNumber >= 130000;
  const row = await session.one<Record<string, string | null>>(
    `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at,
            pg_current_wal_insert_lsn()::text AS inserting, pg_current_wal_flush_lsn()::text AS flushed,
            left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) AS timeline,
            (SELECT count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global'))::text AS tablespaces,
            s.active::text AS active, s.restart_lsn::text AS kept,
            coalesce(r.write_lsn, CASE WHEN (pg_walfile_name_offset(s.restart_lsn)).file_offset = 0
                                       THEN s.restart_lsn END)::text AS received,
            (r.write_lsn IS NOT NULL)::text AS reported,
            ${isModern ? 's.wal_status AS status, s.safe_wal_size::text AS safe' : 'NULL AS status, NULL AS safe'}
       FROM (SELECT 1) AS one LEFT JOIN pg_replication_slots s ON s.slot_name = $1
       LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid`,
    [name],
  );
  const state: SlotState = {
    inserting: parseLsn(row.inserting as string),
    flushed: parseLsn(row.flushed as string),
    timeline: Number.parseInt(row.timeline as string, 16),
    at: row.at as string,
    tablespaces: Number(row.tablespaces ?? 0),
  };
  if (row.active === null) return state;
  return {
    ...state,
    slot: {
      active: row.active === 'true',
      ...(row.kept ? { kept: parseLsn(row.kept) } : {}),
      ...(row.kept && row.received ? { received: parseLsn(row.received) } : {}),
      ...(row.reported === 'true' ? { reported: true } : {}),
      ...(row.status ? { status: row.status } : {}),
      ...(row.safe ? { safe: Number(row.safe) } : {}),
    },
  };
}

/** A condition in SQL: the row of pg_replication_slots has a name as Lifeboat chooses it. */
export const IS_LIFEBOAT_SLOT = "slot_name ~ '^lifeboat_[0-9a-f]{16}$'";

/** Returns the inactive slots of agents, without one. Their names have the form of {@link slotName}. */
export async function otherSlots(session: Session, own: string): Promise<string[]> {
  const rows = await session.all<{ name: string }>(
    `SELECT slot_name::text AS name FROM pg_replication_slots
                WHERE ${IS_LIFEBOAT_SLOT} AND slot_type = 'physical' AND NOT active AND slot_name <> $1`,
    [own],
  );
  return rows.map(({ name }) => name);
}

/** Creates a slot that keeps all WAL from now on. The caller has recorded its name. */
export async function createSlot(session: Session, name: string): Promise<void> {
  await session.one('SELECT pg_create_physical_replication_slot($1, true)::text AS slot', [name]);
}

/** The most time that the connection of a slot gets to end, milliseconds. */
const END_MS = 30_000;

/**
 * Drops a slot, if it exists. Ends the connection that uses it.
 *
 * @throws PG_QUERY if that connection does not end
 */
export async function dropSlot(session: Session, name: string): Promise<void> {
  const until = performance.now() + END_MS;
  for (;;) {
    await session.all(
      'SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL',
      [name],
    );
    try {
      await session.all('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1', [
        name,
      ]);
      return;
    } catch (error) {
      // object_in_use: the connection is still ending.
      if (sqlState(error) !== '55006' || performance.now() > until) throw error;
      await sleep(100);
    }
  }
}

/** The time between two reports of the receiver to the server, seconds. */
const STATUS_S = 1;

/**
 * Nothing is written to the input, and the engine closes it when the agent is gone. The program then ends as by Ctrl+C:
 * nobody would limit what it writes to the spool. `$$` is also its process id. The shell gives what runs in the
 * background another input.
 */
const RECEIVE_SCRIPT = `${TOOLS}; exec 3<&0
{ read -r _ <&3; kill -INT $$; } >/dev/null 2>&1 &
exec pg_receivewal "$@" </dev/null 3<&-`;

/**
 * Receives WAL until the connection ends. The signal ends the wait and the program, and so does the end of the agent.
 *
 * The program writes each part to its file, and tells the server so each second. It syncs only complete segments, and
 * the slot keeps the rest. With `--synchronous`, it would sync a file for each commit: on the disk of the server,
 * pgbench was a third slower.
 *
 * @throws EXEC_FAILED when the program ends: it ends only with its connection
 */
export async function receiveWal(
  tools: Tools,
  { slot, directory }: { slot: string; directory: string },
  signal: AbortSignal,
): Promise<void> {
  const place = [`--slot=${slot}`, `--directory=${directory}`];
  const options = ['--no-loop', '--no-password', `--status-interval=${STATUS_S}`, ...place];
  const database = databaseArgument(tools.connection, tools.database);
  await tools.run(['sh', '-c', RECEIVE_SCRIPT, 'receive', ...options, database], signal, { stdin: 'pipe' });
  throw new LifeboatError('EXEC_FAILED', 'pg_receivewal was stopped');
}
