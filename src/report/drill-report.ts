import type { ErrorInfo } from '../base/errors.ts';

/** One comparison of a drill. */
export interface DrillCheck {
  /** `rows`, `indexes`, `assert users` */
  name: string;
  /** the database or the volume */
  of: string;
  /** `skipped`: nothing was compared, and `detail` says why */
  result: 'ok' | 'failed' | 'skipped';
  expected?: string | number | boolean;
  found?: string | number | boolean;
  /** what differs, in words; absent if nothing does, or if `expected` and `found` say it */
  differences?: string[];
  detail?: string;
}

/** The image that a restored server ran on. */
export interface DrillImage {
  id: string;
  /** `postgres@sha256:…`, as registries name it; absent if no registry has it */
  digest?: string;
  /** it is the image that was recorded with the snapshot */
  recorded: boolean;
}

/** A target of a source, milliseconds, and whether a drill met it. */
export interface DrillTarget {
  targetMs: number;
  /** null: the drill does not tell, because it failed, or restored only a part, or not the newest snapshot */
  met: boolean | null;
}

/**
 * The request behind a drill. An absent field stands for the default: the newest snapshot of every source, from the
 * own repository.
 */
export interface DrillAsked {
  sources?: string[];
  /** as it was named: an id, or the start of one */
  snapshot?: string;
  /** the point in time to recover to */
  at?: string;
  /** name of another place to read */
  from?: string;
  /** with the smoke tests of the applications */
  stack?: true;
}

/** One source's part of a drill. Durations in milliseconds. */
export interface DrillResult {
  source: string;
  /** `stack`: the smoke tests of applications next to all restored data */
  kind: 'postgres' | 'volume' | 'files' | 'stack';
  /**
   * `interrupted`: the drill ended early, and proves nothing about the source. `unproven`: nothing failed, but a part
   * is not proven. Either no key to decrypt the snapshot is set, or the snapshot does not hold all of the source
   */
  status: 'ok' | 'failed' | 'interrupted' | 'unproven';
  /** id of the snapshot; absent if none was found */
  snapshot?: string;
  /** ISO time of the data, and its age when the drill began */
  heldAt?: string;
  ageMs?: number;
  /** the target `LIFEBOAT_RPO`, to which `ageMs` is compared */
  rpo?: DrillTarget;
  /** where the snapshot was read: `/backups`, `s3://…` */
  place: string;
  image?: DrillImage;
  /** version of the server that was restored into, such as `17.4` */
  version?: string;
  /** the steps in order */
  steps: { name: string; durationMs: number }[];
  /** from the first read of the data until it could be used: the measured recovery time */
  restoreMs?: number;
  /** the target `LIFEBOAT_RTO`, to which `restoreMs` is compared */
  rto?: DrillTarget;
  /** of a volume: the share of its files that was restored, 0 to 1; absent: all */
  share?: number;
  /** where that share begins, 0 to 1: the next drill goes on where it ends */
  shareFrom?: number;
  /** `61 tables, 1,523,118 rows equal` */
  summary?: string;
  checks: DrillCheck[];
  notes: string[];
  error?: ErrorInfo;
}

/** The evidence of a drill: notified, printed and stored as `<project>/drills/<id>.json`. */
export interface DrillReport {
  id: string;
  project: string;
  /** `schedule`, or `manual` for a command */
  trigger: 'schedule' | 'manual';
  /** who asked for it, as `--by` names them */
  by?: string;
  asked?: DrillAsked;
  start: string;
  end: string;
  status: DrillResult['status'];
  agentVersion: string;
  results: DrillResult[];
  /** what the drill did not prove, such as content that it cannot decrypt, or a database that the snapshot lacks */
  unproven: string[];
  /** why the drill failed as a whole */
  error?: ErrorInfo;
}

/** Facts about a drill that a notifier needs in addition to the report. */
export interface DrillNews {
  /** the sources whose last drill failed */
  failing?: string[];
  /** with this drill, none is failing any more */
  ended?: boolean;
  /** the drill before it left the same unproven */
  repeated?: boolean;
}
