import type { ErrorInfo } from '../../base/errors.ts';
import type { CheckResult } from '../../check/check.ts';
import type { NeededKey } from '../../check/keys.ts';
import type { SetupOutcome } from '../../destinations/s3/bucket.ts';
import type { agentPolicy } from '../../destinations/s3/policy.ts';
import type { UndeleteResult } from '../../destinations/s3/undelete.ts';
import type { ExportReport } from '../../export/export.ts';
import type { ImportReport } from '../../import/import.ts';
import type { testNotifiers } from '../../notify/notifier.ts';
import type { StatusDocument } from '../../overview/document.ts';
import type { HostState } from '../../overview/hosts.ts';
import type { SnapshotsDocument } from '../../overview/snapshot-list.ts';
import type { SourceWindows } from '../../overview/windows.ts';
import type { Loss } from '../../plan/accepted.ts';
import type { KeepPolicy, Note, PlannedSource, Problem } from '../../plan/model.ts';
import type { PruneResult } from '../../prune/prune.ts';
import type { DrillReport } from '../../report/drill-report.ts';
import type { CopyReport, RunReport } from '../../report/events.ts';
import type { DrillsReport } from '../../report/terminal/listed-drill.ts';
import type { Probed } from '../../report/terminal/listing.ts';
import type { Forgotten } from '../../restore/all/forget-all.ts';
import type { RestoreResult } from '../../restore/context.ts';
import type { PointResult } from '../../restore/point/restore-point.ts';
import type { RollbackResult } from '../../restore/rollback.ts';
import type { InitResult } from '../../setup/init.ts';
import type { PostgresFacts } from '../../sources/postgres/facts/facts.ts';
import type { Manifest, ManifestSource } from '../../store/objects/manifest.ts';
import type { Acceptance } from '../../store/repository/repository-info.ts';

/** A source in the plan. */
interface PlanRow extends Pick<PlannedSource, 'name' | 'kind' | 'schedule' | 'keep'>, Partial<Probed> {
  service?: string;
  /** name of the container; absent for the source `config` */
  container?: string;
}

/** The sources that the next run backs up, the places that it stores them in, and the problems. */
interface PlanDocument {
  project: string;
  sources: PlanRow[];
  problems: Problem[];
  notes: Note[];
  /** ISO time */
  nextRun: string;
  /** the location without its options: `s3://bucket/prefix` */
  destination: string;
  /** the copies, with their own retention if they have one */
  copies: { name: string; keep?: KeepPolicy }[];
}

/** The labels of another program, as labels of Lifeboat. */
interface TranslationDocument {
  /** by service */
  labels: Record<string, Readonly<Record<string, string>>>;
  settings: Record<string, string>;
  /** names of variables that hold the values of secret settings, by setting */
  secrets?: Record<string, string>;
  /** what has no translation, or needs a decision */
  notes: string[];
}

/** A Postgres server in a snapshot. */
type ServerDocument = Omit<ManifestSource, 'facts'> & {
  /** what the backup recorded about the server; absent if the source failed */
  facts?: PostgresFacts | undefined;
};

/** The files of a source in a snapshot. */
interface FilesDocument {
  files: {
    path: string;
    type: string;
    /** octal */
    mode: string;
    uid: number;
    gid: number;
    /** bytes; only of files */
    size?: number | undefined;
    /** ISO time */
    mtime: string;
  }[];
}

interface WindowsDocument {
  sources: SourceWindows[];
}

interface CheckDocument extends Omit<CheckResult, 'keys'> {
  /** the keys that snapshots need; `standsFor`: the public key or the passphrase's place, if known */
  keys: (NeededKey & { standsFor?: string })[];
  /** lifecycle rules of buckets that would harm backups */
  rules: Problem[];
}

/** The data that can no longer be rolled back. */
type ForgottenDocument = Pick<Forgotten, 'failed'> &
  ({ forgotten: Forgotten['forgotten'] } | { wouldForget: Forgotten['forgotten'] });

/** The prune of one place: its result, or its error. */
export type PlaceDocument = { destination: string } & (PruneResult | { error: ErrorInfo });

type PruneDocument = PlaceDocument & {
  /** the copies; absent if there are none */
  copies?: PlaceDocument[];
};

/** A snapshot that is given up. */
interface ForgetDocument {
  snapshot: string;
  /** why its manifest cannot be used */
  error: ErrorInfo;
  /** the reason of its pin */
  pinned: string | null;
  copies: {
    /** names of the copies that have its manifest */
    readable: string[];
    /** names of the copies that cannot be used now */
    unknown: string[];
  };
  /** false in a dry run */
  forgotten: boolean;
}

/** The accepted loss: of a source, of a copy's content, or of the repository at the destination. */
type AcceptDocument =
  | { accepted: string; losses: Loss[] }
  | { accepted: string }
  | {
      accepted: 'destination';
      /** id of the repository */
      repository: string;
      how: Acceptance;
      snapshots: number;
    };

/** The document of each command with `--json`, by the name of the command and, if that decides, its options. */
export interface Documents {
  plan: PlanDocument;
  'plan --from-labels': TranslationDocument;
  backup: RunReport;
  status: StatusDocument;
  'status --all-hosts': { hosts: HostState[] };
  snapshots: SnapshotsDocument;
  'show SNAPSHOT': Manifest;
  'show SNAPSHOT SOURCE': ServerDocument | FilesDocument;
  windows: WindowsDocument;
  check: CheckDocument;
  restore: RestoreResult;
  /** `restore --all` in a container without a project: its Compose files are back */
  'restore on a new host': {
    project: string;
    /** names of what was restored, in the project directory */
    files: string[];
    /** what went wrong with the files, for a person to read; empty if all are back */
    warnings: string[];
    /** the commands that restore the data, in order */
    next: string[];
    /** the name of the script in the project directory that runs them; null if it could not be written */
    script: string | null;
  };
  'restore --to-volume': PointResult;
  drill: DrillReport;
  drills: DrillsReport;
  rollback: RollbackResult;
  'rollback --forget': ForgottenDocument;
  export: ExportReport & { file: string };
  import: ImportReport;
  prune: PruneDocument;
  forget: ForgetDocument;
  pin: {
    snapshot: string;
    /** the reason of the pin */
    pinned: string;
  };
  unpin: {
    snapshot: string;
    /** the reason of the pin; null if there was none */
    unpinned: string | null;
  };
  copy: { copies: CopyReport[] };
  accept: AcceptDocument;
  'bucket setup': SetupOutcome & {
    /** false: nothing was changed */
    set: boolean;
  };
  /** a policy of IAM, as S3 servers read it */
  'bucket policy': ReturnType<typeof agentPolicy>;
  'bucket undelete': UndeleteResult & {
    /** ISO time */
    before: string;
    /** false: nothing was changed */
    done: boolean;
  };
  init: InitResult;
  completion: { shell: string; script: string };
  'notify test': { notifiers: Awaited<ReturnType<typeof testNotifiers>> };
  /** what every command prints if it fails as a whole */
  error: { error: ErrorInfo };
}
