import type { LabelValues } from './labels.ts';
import type { BaseSource, ContainerFacts, PlannedSource, PostgresSource, StoppedDatabase } from './model.ts';
import { startCommand } from './names.ts';
import { readPort, readPostgresCommand } from './postgres-command.ts';
import { type Claim, containerClaim, resolveClaims, SECRETS } from './postgres-credentials.ts';
import type { Settings } from './settings.ts';
import { drillAsks } from './values/drill-assert.ts';

const DEFAULT_PORT = 5432;

/** Data directories of common images, for containers whose command line and environment name none. */
const USUAL_DIRECTORIES = [
  '/var/lib/postgresql/data',
  '/bitnami/postgresql/data',
  '/var/lib/pgsql/data/userdata',
  '/home/postgres/pgdata/pgroot/data',
  '/home/postgres/pgdata/data',
];

/**
 * Builds a Postgres source from its container's command line and environment. An empty variable counts as not set, as
 * in the entry points of common images. Credentials for this source take precedence over the settings for all sources,
 * and those over the container's environment.
 */
export function postgresSource(
  base: Omit<PlannedSource, 'kind'>,
  container: ContainerFacts,
  values: LabelValues,
  settings: Settings,
): PostgresSource {
  const env = (name: string) => (Object.hasOwn(container.env, name) && container.env[name]) || undefined;
  const databases = values['lifeboat.postgres.databases'];
  const command = readPostgresCommand(container.command ?? []);
  const own = containerClaim(env);
  const { database, databaseFile, databaseFrom } = own;
  const drill = drillAsks(
    values['lifeboat.drill.assert'],
    values['lifeboat.drill.assert.*'],
    values['lifeboat.drill.database'],
  );
  return {
    ...base,
    kind: 'postgres',
    imageId: container.imageId,
    mounts: container.mounts,
    ...(databases === undefined ? {} : { databases }),
    excludeDatabases: values['lifeboat.postgres.exclude-databases'] ?? [],
    excludeTableData: values['lifeboat.postgres.exclude-table-data'] ?? [],
    ...(drill === undefined ? {} : { drill }),
    database,
    ...(databaseFile === undefined ? {} : { databaseFile }),
    ...(databaseFrom === undefined ? {} : { databaseFrom }),
    // The command line takes precedence, as for the server (Postgres docs, 19.1).
    port: command.port ?? readPort(env('PGPORT')) ?? DEFAULT_PORT,
    dataDirectories: dataDirectoriesOf(container),
    ...(command.configFile === undefined ? {} : { configFile: command.configFile }),
    ...resolveClaims([ofSource(base.name, settings), ofLabels(values), ofSettings(settings), own]),
  };
}

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;

/**
 * Builds the source of a server's base backups. No command of `lifeboat.exec` surrounds it, and no restore asks for its
 * health: recovery brings every base backup to a consistent state by itself.
 */
export function baseSource(server: PostgresSource, values: LabelValues, settings: Settings): BaseSource {
  const { pre: _, post: __, restored: ___, health: ____, dependsOn: _____, ...rest } = server;
  const windowMs = values['lifeboat.postgres.pitr.window'] ?? 7 * DAY_MS;
  return {
    ...rest,
    kind: 'base',
    name: baseName(server.name),
    server: server.name,
    schedule: settings.baseSchedule,
    keep: { within: Math.ceil(windowMs / HOUR_MS) },
    windowMs,
  };
}

/** Returns the name of the base backups of a server. Its last part keeps it apart from every volume. */
export function baseName(server: string): string {
  return `${server}.base`;
}

/** Returns the server that base backups are made of, as a source of its own. */
export function serverOf({ kind: _, server, windowMs: __, ...rest }: BaseSource): PostgresSource {
  return { ...rest, kind: 'postgres', name: server };
}

/** Returns the possible data directories of a Postgres container as absolute paths, the most likely first. */
export function dataDirectoriesOf({ env, command }: Pick<ContainerFacts, 'env' | 'command'>): string[] {
  const { dataDirectory, directory } = readPostgresCommand(command ?? []);
  const named = [dataDirectory, directory, env.PGDATA, env.POSTGRESQL_DATA_DIR, ...USUAL_DIRECTORIES];
  return [...new Set(named.filter((one) => one?.startsWith('/')))] as string[];
}

function ofSource(name: string, { pgCredentials }: Settings): Claim {
  const found = pgCredentials.find(({ source }) => source === name);
  return { ...found, passwordFrom: 'LIFEBOAT_PGCREDENTIALS' };
}

/**
 * Reads credentials from labels. The secret is one of the container itself, so a label cannot send foreign secrets to
 * its server.
 */
function ofLabels(values: LabelValues): Claim {
  const [user, secret] = [values['lifeboat.postgres.user'], values['lifeboat.postgres.password-secret']];
  return {
    ...(user === undefined ? {} : { user }),
    ...(secret === undefined ? {} : { passwordFile: `${SECRETS}/${secret}` }),
    passwordFrom: 'lifeboat.postgres.password-secret',
  };
}

function ofSettings({ pgUser, pgPassword }: Settings): Claim {
  return {
    ...(pgUser === undefined ? {} : { user: pgUser }),
    ...(pgPassword === undefined ? {} : { password: pgPassword }),
    passwordFrom: 'LIFEBOAT_PGPASSWORD',
  };
}

/** Describes a database container that does not run, for a user of the project `ownProject`. */
export function stoppedOf(container: ContainerFacts, ownProject: string): StoppedDatabase {
  return { container: container.name, start: startCommand(container, ownProject) };
}

/** Returns the error about a database whose container does not run. */
export function stoppedDatabase({ container, start }: StoppedDatabase) {
  return {
    code: 'CONTAINER_STOPPED' as const,
    message: `container ${container} is not running, so its databases cannot be backed up`,
    hint: `Start it with \`${start}\`, or remove its label lifeboat.postgres.`,
  };
}
