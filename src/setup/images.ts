/** Recognises programs by the name of their image. */

/** Returns the last part of an image's name, without registry, tag and digest: `immich-app/postgres`→`postgres`. */
function baseName(image: string): string {
  const path = image.split('@')[0] ?? '';
  return (path.split('/').at(-1) ?? '').split(':')[0]?.toLowerCase() ?? '';
}

/** Programs that only talk to Postgres. */
const CLIENTS = /export|backup|postgrest|pgadmin|pgbouncer|pgpool|pgweb|pghero|operator|proxy|meta|client/;

/** Returns whether an image most likely runs a Postgres server. */
export function isPostgresImage(image: string): boolean {
  const name = baseName(image);
  return (
    /postgres|postgis|timescaledb|pgvecto|vectorchord|spilo|citus|paradedb|^pg\d*$/.test(name) && !CLIENTS.test(name)
  );
}

/** Returns what an image keeps that nobody needs to back up, or undefined: `a cache`. */
export function throwawayOf(image: string): string | undefined {
  const name = baseName(image);
  if (/^(redis|valkey|keydb|dragonfly|memcached)/.test(name) || /-redis$/.test(name)) return 'a cache';
  if (/^(prometheus|loki|promtail|cadvisor|node-exporter|tempo|jaeger|fluent)/.test(name)) return 'monitoring data';
  return undefined;
}

/** Returns whether an image most likely runs a database server whose files are only consistent while it is stopped. */
export function isOtherDatabase(image: string): boolean {
  const name = baseName(image);
  return /^(mysql|mariadb|percona|mongo|clickhouse|influxdb|couchdb|neo4j|cassandra|elasticsearch|opensearch|rabbitmq)/.test(
    name,
  );
}

/** Returns whether an image makes backups itself. */
export function isBackupTool(image: string): boolean {
  return (
    /backup|restic|borgmatic|duplicati|kopia|stack-back|databasus|postgresus/.test(baseName(image)) || isLifeboat(image)
  );
}

/** Returns whether an image is this program. */
export function isLifeboat(image: string): boolean {
  return baseName(image) === 'lifeboat';
}
