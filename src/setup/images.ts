import { contains } from '../plan/host-paths.ts';

/** Recognises programs by the name of their image, or by the directories that they use. */

/** Returns the last part of an image's name, without registry, tag and digest: `immich-app/postgres`→`postgres`. */
function baseName(image: string): string {
  const path = image.split('@')[0] ?? '';
  return (path.split('/').at(-1) ?? '').split(':')[0]?.toLowerCase() ?? '';
}

/** Programs that only talk to a database server. */
const CLIENTS =
  /export|backup|postgrest|pgadmin|pgbouncer|pgpool|pgweb|pghero|operator|proxy|meta|client|express|admin|dashboard/;

/** Returns whether an image most likely runs a Postgres server. */
export function isPostgresImage(image: string): boolean {
  const name = baseName(image);
  const isServer = /postgres|postgis|timescaledb|pgvecto|vectorchord|spilo|citus|paradedb|^pgautoupgrade$|^pg\d*$/;
  return isServer.test(name) && !CLIENTS.test(name);
}

/** Returns what an image keeps that nobody needs to back up, or undefined: `a cache`. */
export function throwawayOf(image: string): string | undefined {
  const name = baseName(image);
  if (/^(redis|valkey|keydb|dragonfly|memcached)/.test(name) || /-redis$/.test(name)) return 'a cache';
  if (/^(prometheus|loki|promtail|cadvisor|node-exporter|tempo|jaeger|fluent)/.test(name)) return 'monitoring data';
  return undefined;
}

/** The names of database servers other than Postgres, as words in the name of an image. */
const OTHERS = [
  ...[
    'mysql',
    'mariadb',
    'percona',
    'mongo',
    'mongodb',
    'mssql',
    'azure-sql-edge',
    'clickhouse',
    'influxdb',
    'couchdb',
  ],
  ...['neo4j', 'cassandra', 'scylla', 'cockroach', 'arangodb', 'rethinkdb', 'surrealdb', 'elasticsearch', 'opensearch'],
  ...['rabbitmq', 'kafka', 'redpanda', 'zookeeper', 'etcd', 'meilisearch', 'typesense', 'solr', 'questdb'],
  ...['victoria-metrics', 'weaviate', 'qdrant', 'chroma', 'milvus'],
];

/**
 * Returns whether an image most likely runs a database server, other than Postgres, whose files are only consistent
 * while it is stopped.
 */
export function isOtherDatabase(image: string): boolean {
  if (isPostgresImage(image)) return false;
  const name = baseName(image);
  return (new RegExp(`(^|[-_.])(${OTHERS.join('|')})`).test(name) || isMssql(image)) && !CLIENTS.test(name);
}

/** Returns whether the name of such an image begins with that of a server, so that it is hardly another program. */
export function isDatabaseByName(image: string): boolean {
  return isOtherDatabase(image) && (new RegExp(`^(${OTHERS.join('|')})`).test(baseName(image)) || isMssql(image));
}

function isMssql(image: string): boolean {
  return /(^|\/)mssql\//.test(image.toLowerCase());
}

/** The data directories of MySQL and MariaDB. */
const MYSQL_DIRECTORIES = ['/var/lib/mysql', '/bitnami/mysql', '/bitnami/mariadb'];

/** The data directories of such servers, for images with other names. */
const OTHER_DIRECTORIES = [
  ...[...MYSQL_DIRECTORIES, '/data/db', '/bitnami/mongodb', '/var/opt/mssql'],
  ...['/var/lib/clickhouse', '/var/lib/influxdb', '/var/lib/influxdb2', '/opt/couchdb/data', '/var/lib/cassandra'],
  ...['/var/lib/scylla', '/var/lib/arangodb3', '/usr/share/elasticsearch/data', '/usr/share/opensearch/data'],
  ...['/var/lib/rabbitmq', '/var/lib/weaviate', '/qdrant/storage', '/meili_data'],
];

/** Returns whether a directory of a container is the data directory of a server other than Postgres, or inside one. */
export function isOtherDirectory(destination: string): boolean {
  return OTHER_DIRECTORIES.some((directory) => contains(directory, destination));
}

/** Returns whether a directory of a container is the data directory of MySQL or MariaDB, or inside it. */
export function isMysqlDirectory(destination: string): boolean {
  return MYSQL_DIRECTORIES.some((directory) => contains(directory, destination));
}

/** Returns whether an image is no more than a system: a service with it may prepare the volume of a server. */
export function isPlainSystem(image: string): boolean {
  return /^(busybox|alpine|debian|ubuntu|bash)$/.test(baseName(image));
}

/** Returns whether an image makes backups itself. */
export function isBackupTool(image: string): boolean {
  const tool = /backup|restic|borgmatic|duplicati|kopia|stack-back|databasus|postgresus|barman|pgbackrest|wal-g/;
  return tool.test(baseName(image)) || isLifeboat(image);
}

/** Returns whether an image is this program. */
export function isLifeboat(image: string): boolean {
  return baseName(image) === 'lifeboat';
}
