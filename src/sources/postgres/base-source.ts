import { LifeboatError } from '../../base/errors.ts';
import type { BaseSource } from '../../plan/model.ts';
import { serverOf } from '../../plan/postgres.ts';
import { plural } from '../../report/format.ts';
import { readIndexFile } from '../../store/filesystem/read-index.ts';
import { imageDigest } from '../image-digest.ts';
import type { BaseFacts, CaptureContext, CapturedTree, Source } from '../source.ts';
import { readServerFacts } from './facts/facts.ts';
import { applicationName } from './postgres-source.ts';
import { databaseArgument, TOOLS } from './server/commands.ts';
import { openTools } from './server/helper-tools.ts';
import type { Session } from './server/session.ts';
import { sqlState } from './server/sql-state.ts';
import type { AgentContext, Tools } from './server/tools.ts';
import { openAnswering, whenUp } from './server/when-up.ts';
import { type BackupManifest, parseBackupManifest } from './wal/backup-manifest.ts';
import { padTar } from './wal/pad-tar.ts';
import { archiveProblem, readReplicationFacts, replicationProblem } from './wal/replication.ts';

interface BaseSourceOptions {
  agent: AgentContext;
  planned: BaseSource;
  recordHelper(name: string): void;
}

/** Name of the manifest in a base backup. */
const MANIFEST = 'backup_manifest';

/** The facts object of a base backup. */
export interface RecordedBase extends Record<string, unknown> {
  kind: 'base';
  server: { version: string; versionNumber: number };
  base: BaseFacts;
  /** of the write-ahead log, bytes */
  segmentSize: number;
  /** path of the data in the container */
  dataDirectory: string;
}

/**
 * Creates a source for base backups of a Postgres container. Its tree is the data directory, as `pg_basebackup` sends
 * it. The WAL that makes it consistent is stored by the receiver.
 */
export function createBaseSource(options: BaseSourceOptions): Source {
  const { planned } = options;
  return {
    name: planned.name,
    kind: 'base',
    async capture<T>(context: CaptureContext, store: (tree: CapturedTree) => Promise<T>): Promise<T> {
      const tools = await openWhenUp(options, context);
      try {
        return await store(await captureBase(options, tools, context));
      } finally {
        await tools.close();
      }
    },
  };
}

function openWhenUp({ agent, planned, recordHelper }: BaseSourceOptions, context: CaptureContext): Promise<Tools> {
  const { runId, log, signal } = context;
  const source = serverOf(planned);
  const { containerId: id, containerName: name } = planned;
  const onWait = (phase: string) => context.progress({ phase, done: 0, waits: true });
  return whenUp({ engine: agent.engine, id, name, log, signal, onWait }, () => {
    const application = applicationName(agent.project, runId);
    const share = { directory: context.spool, access: 'read-write' as const };
    return openAnswering(() => openTools({ agent, source, application, runId, recordHelper, share, log, signal }));
  });
}

async function captureBase(
  { agent, planned }: BaseSourceOptions,
  tools: Tools,
  { signal }: CaptureContext,
): Promise<CapturedTree> {
  const control = await tools.control();
  const replication = await readReplicationFacts(control);
  // The receiver takes a sender and a slot of its own.
  const problem = replicationProblem(replication, true) ?? archiveProblem(replication);
  if (problem) throw problem;
  const { version, versionNumber } = await readServerFacts(control);
  const { dataDirectory } = await control.one<{ dataDirectory: string }>(
    `SELECT current_setting('data_directory') AS "dataDirectory"`,
  );
  const startTime = await clockOf(control);
  let stopTime = startTime;
  const areas = await readAreas(control);
  const digest = await imageDigest(agent.engine, planned.imageId, signal);
  let manifest: BackupManifest | undefined;
  const tree: CapturedTree = {
    root: `the base backup of ${planned.containerName}`,
    ...{ reach: { kind: 'here' }, include: [], exclude: [], warnings: [] },
    ...{ facts: {}, summary: `base backup · Postgres ${version}`, image: planned.imageId },
    ...(digest === undefined ? {} : { imageDigest: digest }),
    ...(areas ? { areas } : {}),
    tar: {
      seen: {
        [MANIFEST](content) {
          manifest = parseBackupManifest(content);
        },
      },
      async read(work) {
        const result = await tools.stream(baseBackupCommand(tools), signal, (tar) => work(padTar(tar)));
        stopTime = await clockOf(await tools.control());
        return result;
      },
      async check(indexPath) {
        if (!manifest) throw new LifeboatError('PG_BASE_FAILED', 'the base backup has no manifest');
        await compareWithManifest(indexPath, manifest.files);
        const { timeline, startLsn, stopLsn } = manifest;
        tree.base = { systemId: replication.systemId, timeline, startLsn, stopLsn, startTime, stopTime };
        const facts: RecordedBase = {
          kind: 'base',
          server: { version, versionNumber },
          base: tree.base,
          segmentSize: replication.segmentSize,
          dataDirectory,
        };
        Object.assign(tree.facts, facts);
      },
    },
  };
  return tree;
}

async function clockOf(session: Session): Promise<string> {
  const { at } = await session.one<{ at: string }>(
    `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at`,
  );
  return at;
}

/**
 * Returns the names of old data in the data directory, which base backups leave out. Returns undefined if the
 * role may not list the directory.
 */
async function readAreas(session: Session): Promise<string[] | undefined> {
  try {
    const names = await session.all<{ name: string }>(
      "SELECT name FROM pg_ls_dir('.') AS name WHERE name LIKE 'pgsql\\_tmp.lifeboat-%' ORDER BY name",
    );
    return names.map(({ name }) => name);
  } catch (error) {
    // insufficient_privilege
    if (sqlState(error) === '42501') return undefined;
    throw error;
  }
}

/** Builds the command that writes a base backup without WAL to its stdout, as one tar. */
function baseBackupCommand(tools: Tools): string[] {
  const options = ['--pgdata=-', '--format=tar', '--wal-method=none', '--manifest-checksums=SHA256'];
  const { connection, database } = tools;
  const more = ['--checkpoint=fast', '--no-password', databaseArgument(connection, database)];
  return ['sh', '-c', `${TOOLS}; exec pg_basebackup "$@"`, 'base-backup', ...options, ...more];
}

/** Compares the stored files with those that the manifest lists. @throws PG_BASE_FAILED */
async function compareWithManifest(indexPath: string, files: BackupManifest['files']): Promise<void> {
  const differs = (path: string, how: string) =>
    new LifeboatError('PG_BASE_FAILED', `${path} in the base backup ${how}`);
  let found = 0;
  for await (const { path, type, sha256, size } of readIndexFile(indexPath)) {
    if (type !== 'file' || path === MANIFEST) continue;
    const expected = files.get(path);
    if (!expected) throw differs(path, 'is not in its manifest');
    if (expected.size !== size || expected.sha256 !== sha256) throw differs(path, 'differs from its manifest');
    found++;
  }
  if (found !== files.size) {
    throw new LifeboatError(
      'PG_BASE_FAILED',
      `the base backup has ${found} of ${plural(files.size, 'file')} in its manifest`,
    );
  }
}
