import type { LabelValues } from './labels.ts';
import type { ContainerFacts, PlannedSource, PostgresSource } from './model.ts';
import type { Settings } from './settings.ts';

const DEFAULT_PORT = 5432;

/**
 * A Postgres source from its container's environment, read as the entry point of the official image reads it: a variable
 * that is empty counts as not set, and `POSTGRES_DB` defaults to `POSTGRES_USER`. Settings of the agent win.
 */
export function postgresSource(
  base: Omit<PlannedSource, 'kind'>,
  container: ContainerFacts,
  values: LabelValues,
  settings: Settings,
): PostgresSource {
  const env = (name: string) => (Object.hasOwn(container.env, name) && container.env[name]) || undefined;
  const databases = values['lifeboat.postgres.databases'];
  const userFile = env('POSTGRES_USER') === undefined ? env('POSTGRES_USER_FILE') : undefined;
  const databaseFile = env('POSTGRES_DB') === undefined ? env('POSTGRES_DB_FILE') : undefined;
  const ownUser = env('POSTGRES_USER') ?? 'postgres';
  // With the name in a file, the default database cannot be told here; `postgres` exists in every cluster.
  const database = env('POSTGRES_DB') ?? (userFile === undefined ? ownUser : 'postgres');
  return {
    ...base,
    kind: 'postgres',
    imageId: container.imageId,
    mounts: container.mounts,
    ...(databases === undefined ? {} : { databases }),
    excludeDatabases: values['lifeboat.postgres.exclude-databases'] ?? [],
    excludeTableData: values['lifeboat.postgres.exclude-table-data'] ?? [],
    user: settings.pgUser ?? ownUser,
    database,
    port: portOf(env('PGPORT')),
    ...(databaseFile === undefined ? {} : { databaseFile }),
    ...(userFile === undefined || settings.pgUser !== undefined ? {} : { userFile }),
    ...credentials(env, settings, settings.pgUser === undefined || settings.pgUser === env('POSTGRES_USER')),
  };
}

/** The container's password belongs to the container's user: another user does not get it. */
function credentials(
  env: (name: string) => string | undefined,
  settings: Settings,
  isOwnUser: boolean,
): Pick<PostgresSource, 'password' | 'passwordFile'> {
  if (settings.pgPassword !== undefined) return { password: settings.pgPassword };
  if (!isOwnUser) return {};
  const password = env('POSTGRES_PASSWORD');
  if (password !== undefined) return { password };
  const passwordFile = env('POSTGRES_PASSWORD_FILE');
  return passwordFile === undefined ? {} : { passwordFile };
}

/** A server with a PGPORT that is no port does not start, so the default does no harm. */
function portOf(text: string | undefined): number {
  const port = Number(text ?? DEFAULT_PORT);
  return Number.isInteger(port) && port > 0 && port < 65_536 ? port : DEFAULT_PORT;
}
