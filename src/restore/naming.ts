import type { ContainerFacts, PlannedSource } from '../plan/model.ts';

/**
 * Variables that hold the host of a database server: `PGHOST`, `DB_HOST`, `POSTGRES_HOST`, `TYPEORM_HOST`,
 * `DATABASE_SERVER`.
 */
const HOST_VARIABLE =
  /(^|_)(PG|PGSQL|DB|SQL|DATABASE|POSTGRES|POSTGRESQL|TYPEORM|PGBOUNCER|PGPOOL|POOLER)\w*_?(HOST|HOSTNAME|SERVER|ADDR|ADDRESS|URL|URI|DSN)S?$|^(PG)?HOST(ADDR)?$/i;

/**
 * `postgres://user:secret@db:5432/shop`, `postgresql+asyncpg://db/shop`, `jdbc:postgresql://db/shop`, `postgis://…`.
 */
const URL_HOSTS = /\b(?:postgres|postgresql|postgis|pgsql|psql|pg)(?:\+\w+)?:\/\/(?:[^\s/@]*@)?([^\s/?#]+)/gi;

/** `host=db port=5432` of a libpq connection string; `Host=db;Database=shop` of .NET. */
const DSN_HOSTS = /\b(?:host|server|hostaddr|data source)\s*=\s*['"]?([^\s;'"]+)/gi;

/** Returns the ids of the containers that the variables or arguments of a container name as Postgres servers. */
export function namedServers(container: ContainerFacts, others: readonly ContainerFacts[]): Set<string> {
  const hosts = new Set(endpoints(container).map((host) => host.toLowerCase()));
  if (hosts.size === 0) return new Set();
  const named = others.filter((other) => {
    const networks = Object.keys(container.networks ?? {}).filter((name) => Object.hasOwn(other.networks ?? {}, name));
    // Without a shared network, the names resolve to something else. A container that uses another one's namespace has
    // no networks of its own.
    const apart = Object.keys(container.networks ?? {}).length > 0 && Object.keys(other.networks ?? {}).length > 0;
    if (apart && networks.length === 0) return false;
    const aliases = networks.flatMap((name) => other.networks?.[name]?.aliases ?? []);
    return [other.service, other.name, ...aliases].some((name) => hosts.has(name.toLowerCase()));
  });
  return new Set(named.map(({ id }) => id));
}

/** Returns the hosts that the variables and arguments of a container name as Postgres servers. */
function endpoints({ env, command = [] }: Pick<ContainerFacts, 'env' | 'command'>): string[] {
  const values = Object.entries(env);
  const plain = values.flatMap(([name, value]) => (HOST_VARIABLE.test(name) ? hostsOf(value) : []));
  const texts = [...values.map(([, value]) => value), ...command];
  const inUrls = texts.flatMap((text) => [...text.matchAll(URL_HOSTS)].flatMap(([, hosts]) => hostsOf(hosts ?? '')));
  const dsns = texts.filter((text) => /\b(dbname|database|user id|username|user)\s*=/i.test(text));
  const inDsns = dsns.flatMap((text) => [...text.matchAll(DSN_HOSTS)].flatMap(([, hosts]) => hostsOf(hosts ?? '')));
  return [...plain, ...inUrls, ...inDsns];
}

/** Splits `db:5432,replica` into hosts. */
function hostsOf(text: string): string[] {
  return text.split(',').map((one) => one.trim().replace(/:\d+$/, ''));
}

/**
 * Returns whether a container with the label `lifeboat.stop` has to do with a source: it mounts the volume, or one of
 * its variables or arguments names the service of the database.
 */
export function concerns(
  { mounts, env, command = [] }: Pick<ContainerFacts, 'mounts' | 'env' | 'command'>,
  target: PlannedSource,
): boolean {
  if (target.kind === 'volume') {
    const { mount } = target;
    return mounts.some(
      ({ type, name, source }) => type === mount.type && (name ?? source) === (mount.name ?? mount.source),
    );
  }
  const hosts = [target.service, target.containerName].filter((host) => host !== '');
  return [...Object.values(env), ...command].some((text) => hosts.some((host) => namesHost(text, host)));
}

/** Returns true for `db`, `db:5432`, `postgres://app@db/shop`, `host=db`; not for `dbname` or `/var/db`. */
function namesHost(text: string, host: string): boolean {
  const isPath = text.startsWith('/');
  return !isPath && text.split(/[^\w.-]+/).includes(host);
}
