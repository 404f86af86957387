/** The service of Lifeboat, as `lifeboat init` adds it to a Compose file. README.md shows the same. */

/** The name of the volume for dumps in progress. */
export const SPOOL_VOLUME = 'lifeboat-spool';

/** The directories for backups, next to the Compose file: the first that nothing uses is taken. */
export const BACKUP_DIRECTORIES = ['backups', 'lifeboat-backups', 'lifeboat-repository'];

/**
 * Returns the lines of the service, with two spaces for each level.
 *
 * @param backups the directory for the backups, relative to the project directory
 */
export function agentService(image: string, backups = 'backups'): string[] {
  return `image: ${JSON.stringify(image)}
restart: unless-stopped
stop_grace_period: 30s  # time to end a run cleanly when you stop Lifeboat
environment:
  TZ: \${TZ:-UTC}
  LIFEBOAT_SCHEDULE: "0 3 * * *"
  LIFEBOAT_HEALTHCHECKS_URL: \${LIFEBOAT_HEALTHCHECKS_URL:-}
  LIFEBOAT_SLACK_WEBHOOK_URL: \${LIFEBOAT_SLACK_WEBHOOK_URL:-}
volumes:
  - \${DOCKER_SOCKET:-/var/run/docker.sock}:/var/run/docker.sock
  - ./${backups}:/backups  # the backups, best on another disk; or see docs/s3.md
  - ${SPOOL_VOLUME}:/spool  # dumps in progress, and the state between runs
  - ./restored:/restored  # for \`lifeboat restore … --to-directory /restored/…\`
  - .:/config:ro  # the Compose files and .env, backed up too`.split('\n');
}
