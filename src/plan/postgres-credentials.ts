import type { PostgresSource } from './model.ts';

/** The directory in which Compose mounts the secrets of a service. */
export const SECRETS = '/run/secrets';

/** The credentials that one place gives: a setting, a label, or the environment. */
export interface Claim {
  user?: string;
  /** a file in the database container that holds the name */
  userFile?: string;
  password?: string;
  /** a file in the database container that holds the password */
  passwordFile?: string;
  /** name of the place of the password, for messages */
  passwordFrom: string;
}

/** The credentials in the environment of a container, always with a user and a database. */
interface ContainerClaim extends Claim {
  database: string;
  databaseFile?: string;
  /** variable that names the database; absent if it is the default */
  databaseFrom?: string;
}

/** Variables of one kind of image. Each can also have a `_FILE` form. */
interface Family {
  user: readonly string[];
  password: readonly string[];
  database: readonly string[];
  /** without a name, the database has the name of the user */
  databaseIsUser?: true;
}

/**
 * Variables by family. The first family applies of which a container sets a user or a password. The superuser passwords
 * of Bitnami and Red Hat come before those of the application user that these images create, which may have fewer
 * rights.
 */
const FAMILIES: readonly Family[] = [
  {
    user: [],
    password: ['POSTGRESQL_POSTGRES_PASSWORD', 'POSTGRES_POSTGRES_PASSWORD', 'POSTGRESQL_ADMIN_PASSWORD'],
    database: ['POSTGRESQL_DATABASE', 'POSTGRES_DATABASE', 'POSTGRES_DB'],
  },
  { user: ['POSTGRES_USER'], password: ['POSTGRES_PASSWORD'], database: ['POSTGRES_DB'], databaseIsUser: true },
  {
    user: ['POSTGRESQL_USERNAME', 'POSTGRESQL_USER'],
    password: ['POSTGRESQL_PASSWORD'],
    database: ['POSTGRESQL_DATABASE'],
  },
  { user: ['PGUSER_SUPERUSER'], password: ['PGPASSWORD_SUPERUSER'], database: [] },
  { user: ['PGUSER'], password: ['PGPASSWORD'], database: ['PGDATABASE'] },
];
const DEFAULT_FAMILY = FAMILIES[1] as Family;

/** Reads the credentials in a container's environment, as the entry point of its image does. */
export function containerClaim(env: (name: string) => string | undefined): ContainerClaim {
  const find = (names: readonly string[]) =>
    names
      .flatMap((name) => [
        { from: name, value: env(name) },
        { from: `${name}_FILE`, file: env(name) === undefined ? env(`${name}_FILE`) : undefined },
      ])
      .find(({ value, file }) => (value ?? file) !== undefined);
  const family = FAMILIES.find(({ user, password }) => find([...user, ...password])) ?? DEFAULT_FAMILY;
  const [user, password, database] = [find(family.user), find(family.password), find(family.database)];
  const name = user?.value ?? 'postgres';
  // If the user is in a file, the name of its database is unknown here. `postgres` exists in every cluster.
  const implied = family.databaseIsUser && user?.file === undefined ? name : 'postgres';
  return {
    ...(user?.file === undefined ? { user: name } : { user: 'postgres', userFile: user.file }),
    ...(password?.value === undefined ? {} : { password: password.value }),
    ...(password?.file === undefined ? {} : { passwordFile: password.file }),
    passwordFrom: password?.from ?? '',
    database: database?.value ?? implied,
    ...(database?.file === undefined ? {} : { databaseFile: database.file }),
    ...(database === undefined ? {} : { databaseFrom: database.from }),
  };
}

/**
 * Chooses the user and the password from several places, the most specific first. A password belongs to the user of its
 * own place, so one from a less specific place than the chosen user counts only if it is for the same user.
 */
export function resolveClaims(
  claims: readonly Claim[],
): Pick<PostgresSource, 'user' | 'userFile' | 'password' | 'passwordFile' | 'passwordFrom'> {
  const chosen = claims.findIndex(({ user }) => user !== undefined);
  const { user = 'postgres', userFile } = claims[chosen] ?? {};
  const isForUser = (i: number) => {
    if (i <= chosen) return true;
    const its = claims.slice(i).find((one) => one.user !== undefined);
    return its?.user === user && its.userFile === undefined;
  };
  const hasPassword = ({ password, passwordFile }: Claim) => (password ?? passwordFile) !== undefined;
  const secret = claims.find((claim, i) => hasPassword(claim) && isForUser(i));
  return {
    user,
    ...(userFile === undefined ? {} : { userFile }),
    ...(secret?.password === undefined ? {} : { password: secret.password }),
    ...(secret?.passwordFile === undefined ? {} : { passwordFile: secret.passwordFile }),
    ...(secret === undefined ? {} : { passwordFrom: secret.passwordFrom }),
  };
}
