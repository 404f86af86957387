import type { ErrorCode } from '../base/errors.ts';
import type { DrillAsks } from './values/drill-assert.ts';
import type { Targets } from './values/targets.ts';

/** One mount of a container, as the engine reports it. */
export interface Mount {
  type: string;
  /** volume name; absent for binds */
  name?: string;
  /** path on the host */
  source: string;
  /** path in the container */
  destination: string;
  writable: boolean;
  /** type of a bind's source; absent if it is unknown. `other`: a socket or a device */
  kind?: 'directory' | 'file' | 'other';
  /** key of a volume under `volumes:` in the Compose file; absent if it is unknown */
  key?: string;
  /** the data directory of a Postgres server, relative to the mount: only that is meant */
  directory?: string;
}

/**
 * The life of a container: shows whether a stopped one is about to start. ISO times; year 1 for what never happened.
 */
export interface ContainerLife {
  /** `created`, `exited`, `running`… */
  state: string;
  /** `no`, `always`, `unless-stopped`, `on-failure` */
  restartPolicy: string;
  createdAt: string;
  startedAt: string;
  finishedAt: string;
}

/** One container, as planning sees it. Plain data that docker/discover creates. */
export interface ContainerFacts {
  id: string;
  name: string;
  /** `com.docker.compose.project`; empty for a container that Compose did not create */
  project: string;
  /** `com.docker.compose.service`; the container's name if Compose did not create it */
  service: string;
  imageId: string;
  running: boolean;
  /** absent if it is unknown */
  life?: ContainerLife;
  labels: Record<string, string>;
  /** why the labels of its Swarm service cannot be read now; absent if they are in `labels` */
  unreadLabels?: string;
  /** labels of its image: an equal label of the container is inherited, not set by the user */
  imageLabels: Record<string, string>;
  env: Record<string, string>;
  /** entry point and arguments; absent if they do not matter */
  command?: readonly string[];
  mounts: Mount[];
  /** time that the container has to stop, seconds; absent if it sets none */
  stopTimeout?: number;
  /** `bridge`, `container:<id>`, a network's name…; absent if it is unknown */
  networkMode?: string;
  /** `container:<id>` for the IPC or process namespace of another container; absent if it is unknown */
  ipcMode?: string;
  pidMode?: string;
  /** the engine removes the container when it stops (`--rm`) */
  autoRemove?: true;
  /** networks by name; absent if they are unknown, empty in the network namespace of another container */
  networks?: Record<string, { addresses: string[]; aliases: string[] }>;
}

/** The properties of a container that decide which files it mounts by themselves, see `fileMountsOf`. */
export interface MountingContainer
  extends Pick<ContainerFacts, 'id' | 'project' | 'service' | 'running' | 'labels' | 'mounts'> {
  life?: Pick<ContainerLife, 'state'>;
}

/** A retention policy. The newest snapshot is kept of so many days, weeks, months and years, as in restic. */
export interface KeepPolicy {
  last?: number;
  /** hours */
  within?: number;
  daily?: number;
  weekly?: number;
  monthly?: number;
  yearly?: number;
}

/** A command to run inside a container. */
export interface Hook {
  /** the argument vector; no shell is involved */
  argv: readonly string[];
  /** `user` or `user:group`, as names or numbers; absent: the user of the container */
  user?: string;
}

interface SourceBase extends Targets {
  /** `db.postgres`, `web.media`, `config`: unique in a project */
  name: string;
  /** Compose project and service, and the container that is it now; empty for `config` */
  project: string;
  service: string;
  containerId: string;
  containerName: string;
  /** five-field cron expression or @alias, already validated */
  schedule: string;
  keep: KeepPolicy;
  /** why the intended policy is unknown, such as a misspelt `lifeboat.keep`; nothing of the source is pruned then */
  keepInDoubt?: string;
  pre?: Hook;
  post?: Hook;
  /** after a restore into the source */
  restored?: Hook;
  /** a URL that must answer 2xx, or a command that must succeed, after a restore */
  health?: { url: string } | Hook;
  /** the smoke test of a drill of the whole stack */
  drillHealth?: Hook;
  /** services of the project that the service of a command depends on, directly or not; absent without commands */
  dependsOn?: string[];
  /** when the container was created and started; absent for `config` */
  life?: ContainerLife;
}

/** A container with the commands of its service. */
export type HookService = Pick<SourceBase, 'project' | 'service' | 'containerId' | 'containerName'> &
  Pick<SourceBase, 'pre' | 'post' | 'restored' | 'health' | 'drillHealth' | 'dependsOn'>;

/** A Postgres container. */
export interface PostgresSource extends SourceBase {
  kind: 'postgres';
  imageId: string;
  /** only these databases; absent: all but templates */
  databases?: string[];
  excludeDatabases: string[];
  excludeTableData: string[];
  drill?: DrillAsks;
  /** role, database and port to connect with, from the settings, the labels, the environment or the image's defaults */
  user: string;
  database: string;
  port: number;
  /** possible data directories in the container, the most likely first */
  dataDirectories: string[];
  /** configuration file outside the data directory, named on the command line */
  configFile?: string;
  /** a literal password; files with passwords are read in the container */
  password?: string;
  userFile?: string;
  passwordFile?: string;
  /** variable, setting or label that has the password, for hints */
  passwordFrom?: string;
  databaseFile?: string;
  /** variable that names `database`; absent if it is a default */
  databaseFrom?: string;
  /** all mounts of the container, through which the files above are read */
  mounts: Mount[];
}

/** Base backups of a Postgres container: the copies of its data directory from which a recovery starts. */
export interface BaseSource extends Omit<PostgresSource, 'kind'> {
  kind: 'base';
  /** the source of the same server's databases, such as `db.postgres` */
  server: string;
  /** how far back recovery to a point in time must reach, milliseconds */
  windowMs: number;
}

/** A named volume or bind of a service. */
export interface VolumeSource extends SourceBase {
  kind: 'volume';
  mount: Mount;
  include: string[];
  exclude: string[];
  /** containers to stop while the volume is read */
  stop: StoppedContainer[];
  /** the label asks for all volumes, not for this one by name, so an empty volume is no mistake */
  all?: true;
  /** the container is also a Postgres source, so data directories of Postgres in the volume are left out */
  withPostgres?: true;
  /** running containers that can write to the volume and are not stopped for it */
  writers?: string[];
  /** see `fileMountsOf`; absent if there are none */
  fileMounts?: readonly string[];
}

/** A container that is stopped while a volume is read. */
export interface StoppedContainer {
  id: string;
  name: string;
  /** absent: those of the source */
  project?: string;
  service?: string;
}

/** Files mounted into the agent: `/config`. */
export interface FilesSource extends SourceBase {
  kind: 'files';
  root: string;
  /** globs that match the backups and volumes that are sources of their own */
  exclude: string[];
  /** see `fileMountsOf`; absent if there are none */
  fileMounts?: readonly string[];
}

export type PlannedSource = PostgresSource | BaseSource | VolumeSource | FilesSource;

/**
 * Something that differs from what the user asked for. `error`: it is not done, or only in part. `warning`: it is done,
 * but may not be what the user meant.
 */
export interface Problem {
  severity: 'error' | 'warning';
  code: ErrorCode;
  /** the container, service or setting it is about */
  subject: string;
  message: string;
  /** what another program said */
  cause?: string;
  hint?: string;
}

/** A labelled database container that exists and does not run. */
export interface StoppedDatabase {
  /** its name */
  container: string;
  /** the command that starts it, as a user types it */
  start: string;
}

/** Information that `plan` shows and that needs no action. */
export interface Note {
  /** the container, service or source it is about */
  subject: string;
  message: string;
}

/** The sources to back up, and the problems of the configuration. */
export interface Plan {
  project: string;
  /** sorted by name */
  sources: PlannedSource[];
  problems: Problem[];
  /** services without sources whose commands surround databases that they depend on; absent if there are none */
  hooks?: HookService[];
  /** absent if there are none */
  notes?: Note[];
  /** for volumes that services share: names that other services would give the source, with its actual name */
  shared?: Readonly<Record<string, string>>;
  /** databases whose container does not run, by source name; absent if there are none */
  stopped?: Readonly<Record<string, StoppedDatabase>>;
  /** the labels of a Swarm service cannot be read now, so sources may be missing; absent if all are known */
  unreadLabels?: true;
  /** labelled containers that are about to start, see awaited.ts; absent if there are none */
  awaited?: string[];
}
