import type { ErrorCode } from '../base/errors.ts';

/** One mount of a container, as the engine's inspect gives it. */
export interface Mount {
  type: string;
  /** volume name; absent for binds */
  name?: string;
  /** path on the host */
  source: string;
  /** path in the container */
  destination: string;
  writable: boolean;
  /** of a bind, what is mounted; absent where nobody asked. `other`: a socket or a device */
  kind?: 'directory' | 'file' | 'other';
  /** of a volume, its key under `volumes:` in the Compose file; absent where it is not known */
  key?: string;
}

/** What tells whether a container that does not run is about to. ISO times, year 1 for what never happened. */
export interface ContainerLife {
  /** `created`, `exited`, `running`… */
  state: string;
  /** `no`, `always`, `unless-stopped`, `on-failure` */
  restartPolicy: string;
  createdAt: string;
  startedAt: string;
  finishedAt: string;
}

/** What planning needs to know of one container. Plain data: made by docker/discover, read by plan/. */
export interface ContainerFacts {
  id: string;
  name: string;
  /** `com.docker.compose.project`; empty for a container that Compose did not make */
  project: string;
  /** `com.docker.compose.service`; the container's name where Compose did not make it */
  service: string;
  imageId: string;
  running: boolean;
  /** when it last started and ended, and what the engine does then; absent where nobody asked the engine */
  life?: ContainerLife;
  labels: Record<string, string>;
  /** the labels of its image: an equal label on the container was inherited, not set by the user */
  imageLabels: Record<string, string>;
  env: Record<string, string>;
  /** entry point and arguments; absent where they do not matter */
  command?: readonly string[];
  mounts: Mount[];
  /** how long it may take to stop, seconds, where that was set */
  stopTimeout?: number;
}

/** How much to keep. Counts of days, weeks, months and years in which the newest snapshot is kept, as restic does. */
export interface KeepPolicy {
  last?: number;
  /** hours */
  within?: number;
  daily?: number;
  weekly?: number;
  monthly?: number;
  yearly?: number;
}

/** A command to run inside a container: an argument vector, never handed to a shell of ours. */
export type Hook = readonly string[];

interface SourceBase {
  /** `db.postgres`, `web.media`, `config`: unique in a project */
  name: string;
  /** Compose project, service, and the container that is it right now; empty for `config` */
  project: string;
  service: string;
  containerId: string;
  containerName: string;
  /** five-field cron expression or @alias, already validated */
  schedule: string;
  keep: KeepPolicy;
  /** why it is not known which policy is meant, such as a misspelt `lifeboat.keep`: nothing of the source is pruned then */
  keepInDoubt?: string;
  pre?: Hook;
  post?: Hook;
  /** when the container was created and started; absent for `config` */
  life?: ContainerLife;
}

/** A Postgres container. */
export interface PostgresSource extends SourceBase {
  kind: 'postgres';
  imageId: string;
  /** only these databases; absent: all but templates */
  databases?: string[];
  excludeDatabases: string[];
  excludeTableData: string[];
  /** from the settings, the labels or the container's environment, with the image's defaults */
  user: string;
  database: string;
  port: number;
  /** where the server's data may be in the container, the surest first: for `postmaster.pid` */
  dataDirectories: string[];
  /** a configuration file outside of the data directory, named on the command line */
  configFile?: string;
  /** a literal password from the container's settings; a file form is read in the container by path */
  password?: string;
  userFile?: string;
  passwordFile?: string;
  /** the variable, setting or label that has the password: for hints */
  passwordFrom?: string;
  databaseFile?: string;
  /** the variable that names `database`; absent where it is a default */
  databaseFrom?: string;
  /** all mounts of the container: the files above are read through them */
  mounts: Mount[];
}

/** Which data directories of databases the tree of a source leaves out. */
export type LeftOutData = 'all' | 'PostgreSQL';

/** A named volume or bind of a service. */
export interface VolumeSource extends SourceBase {
  kind: 'volume';
  mount: Mount;
  include: string[];
  exclude: string[];
  /** the containers that mount the volume, to be stopped while it is read; empty: none is */
  stop: StoppedContainer[];
  /** the label asks for all volumes, not for this one by name: an empty one is no mistake */
  all?: true;
  /** the container is a Postgres source too: data directories of Postgres in the volume are left out */
  besidePostgres?: true;
  /** running containers that can write to the volume and are not stopped for it */
  writers?: string[];
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
  /** globs of what is not configuration: the backups, and volumes that are sources of their own */
  exclude: string[];
}

export type PlannedSource = PostgresSource | VolumeSource | FilesSource;

/** Something that is not as the user meant it. `error`: what was asked for is not done, wholly or in
 * part. `warning`: it is done, but may not be what was meant. */
export interface Problem {
  severity: 'error' | 'warning';
  code: ErrorCode;
  /** the container, service or setting it is about */
  subject: string;
  message: string;
  hint?: string;
}

/** Something that `plan` says and that nobody has to act on. */
export interface Note {
  /** the container, service or source it is about */
  subject: string;
  message: string;
}

/** The whole answer to "what will be backed up". */
export interface Plan {
  project: string;
  /** sorted by name */
  sources: PlannedSource[];
  problems: Problem[];
  /** absent when there is nothing to say */
  notes?: Note[];
  /** names that sources would have if no other service shared their volume, with the source that has it */
  shared?: Readonly<Record<string, string>>;
  /** labelled containers that do not run and are about to, see awaited.ts; absent when there is none */
  awaited?: string[];
}
