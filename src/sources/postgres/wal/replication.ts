import { hasCode, LifeboatError } from '../../../base/errors.ts';
import type { Session } from '../server/session.ts';
import type { Tools } from '../server/tools.ts';
import { COMMAND_SCRIPT, replicationArgument } from './history.ts';

/** The properties of a server that point-in-time recovery depends on. */
export interface ReplicationFacts {
  systemId: string;
  /** bytes */
  segmentSize: number;
  walLevel: string;
  maxSenders: number;
  freeSenders: number;
  freeSlots: number;
  mayReplicate: boolean;
  /** the role sees the settings and the replication connections of the server, see {@link WATCHING} */
  mayWatch: boolean;
  role: string;
  inRecovery: boolean;
  /** a base backup would wait for `archive_command`, which fails */
  isArchivingStuck: boolean;
  /** names of the tablespaces that users created */
  tablespaces: string[];
}

/**
 * The roles whose rights Lifeboat needs: the path of the data is a setting that only they show, and so is how far a
 * receiver is (Postgres docs, 21.5). `pg_monitor` has both.
 */
const WATCHING = ['pg_read_all_settings', 'pg_read_all_stats'];

/** Reads the settings and rights that replication needs (Postgres docs, 19.6). */
export async function readReplicationFacts(session: Session): Promise<ReplicationFacts> {
  const row = await session.one<Record<string, string> & { tablespaces: string[] }>(
    `SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system,
            (SELECT bytes_per_wal_segment::text FROM pg_control_init()) AS segment,
            current_setting('wal_level') AS level, current_setting('max_wal_senders') AS senders,
            (current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication))::text AS free,
            (current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots))::text AS slots,
            (SELECT (rolreplication OR rolsuper)::text FROM pg_roles WHERE rolname = current_user) AS may,
            (SELECT bool_and(pg_has_role(one, 'USAGE')) FROM unnest($1::text[]) AS one)::text AS watch,
            current_user::text AS role, pg_is_in_recovery()::text AS recovery,
            (SELECT current_setting('archive_mode') <> 'off' AND failed_count > 0
                    AND last_failed_time > coalesce(last_archived_time, '-infinity') FROM pg_stat_archiver)::text AS stuck,
            ARRAY(SELECT spcname::text FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')) AS tablespaces`,
    [WATCHING],
  );
  return {
    systemId: row.system as string,
    segmentSize: Number(row.segment),
    walLevel: row.level as string,
    maxSenders: Number(row.senders),
    freeSenders: Number(row.free),
    freeSlots: Number(row.slots),
    mayReplicate: row.may === 'true',
    mayWatch: row.watch === 'true',
    role: row.role as string,
    inRecovery: row.recovery === 'true',
    isArchivingStuck: row.stuck === 'true',
    tablespaces: row.tablespaces,
  };
}

/** The receiver and a base backup at the same time. */
const SENDERS = 2;

/**
 * Returns why a server cannot be recovered to a point in time as it is configured, with the line that repairs it.
 *
 * @param own Lifeboat's receiver is connected, and its slot exists
 */
export function replicationProblem(facts: ReplicationFacts, own: boolean): LifeboatError | undefined {
  const role = `"${facts.role.replaceAll('"', '""')}"`;
  const refuse = (message: string, hint: string) => new LifeboatError('PG_REPLICATION', message, { hint });
  if (facts.inRecovery) {
    return refuse(
      'the server is a standby, and Lifeboat receives WAL only from a primary',
      'Set lifeboat.postgres.pitr on the container of the primary instead.',
    );
  }
  if (facts.walLevel === 'minimal') {
    return refuse(
      'the server writes too little WAL: wal_level is minimal',
      `Run ALTER SYSTEM SET wal_level = 'replica'; then restart the container.`,
    );
  }
  if (facts.maxSenders < SENDERS || facts.freeSenders < (own ? 1 : SENDERS)) {
    return refuse(
      `the server has too few WAL senders: max_wal_senders is ${facts.maxSenders}`,
      `Run ALTER SYSTEM SET max_wal_senders = ${Math.max(10, facts.maxSenders + SENDERS)}; then restart the container.`,
    );
  }
  if (!own && facts.freeSlots < 1) {
    return refuse(
      'the server has no free replication slot',
      'Drop a slot that nobody uses (pg_replication_slots), or run ALTER SYSTEM SET max_replication_slots = 20; then restart the container.',
    );
  }
  if (!facts.mayReplicate) {
    return refuse(`role ${facts.role} may not replicate`, `Run ALTER ROLE ${role} REPLICATION; as a superuser.`);
  }
  if (!facts.mayWatch) {
    return refuse(
      `role ${facts.role} may not see how far the replication is, nor where the data is`,
      `Run GRANT pg_monitor TO ${role}; as a superuser.`,
    );
  }
  if (facts.tablespaces.length > 0) {
    return refuse(
      `the server has tablespaces (${facts.tablespaces.join(', ')}), which base backups do not support`,
      'Move their tables to pg_default (ALTER TABLE ALL IN TABLESPACE … SET TABLESPACE pg_default), then drop the tablespaces. Or remove lifeboat.postgres.pitr.',
    );
  }
  return undefined;
}

/**
 * Returns why no base backup of a server can be made now. The server ends a base backup only once its WAL is archived,
 * if it archives any (pg_basebackup.c: without its WAL, a base backup waits).
 */
export function archiveProblem({ isArchivingStuck }: ReplicationFacts): LifeboatError | undefined {
  if (!isArchivingStuck) return undefined;
  return new LifeboatError('PG_REPLICATION', 'the archive_command of the server fails, and base backups wait for it', {
    hint: `Repair archive_command: the log of the server shows why it fails. Or, if nobody needs that archive, run ALTER SYSTEM SET archive_command = '/bin/true'; SELECT pg_reload_conf();`,
  });
}

/**
 * Opens a replication connection, and closes it again: only the server knows how pg_hba.conf judges one.
 *
 * @throws PG_REPLICATION if the server refuses it
 */
export async function tryReplication(tools: Tools, signal: AbortSignal): Promise<void> {
  try {
    await tools.run(['sh', '-c', COMMAND_SCRIPT, replicationArgument(tools), 'IDENTIFY_SYSTEM'], signal);
  } catch (error) {
    if (!hasCode(error, 'EXEC_FAILED')) throw error;
    const { host, user } = tools.connection;
    const address = host.startsWith('/') ? `local  replication  ${user}  trust` : rule(host, user);
    throw new LifeboatError('PG_REPLICATION', 'the server refuses replication connections from its own address', {
      cause: error,
      hint: `Add this line to pg_hba.conf, then run SELECT pg_reload_conf(); — ${address}`,
    });
  }
}

function rule(host: string, user: string): string {
  const address = host === '::1' ? '::1/128' : '127.0.0.1/32';
  return `host  replication  ${user}  ${address}  scram-sha-256`;
}
